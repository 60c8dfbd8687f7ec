"""A model folder with a pickle in it is refused before anything of it is read."""

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from flows.registry.pickles import SUFFIXES, Pickled, refuse_pickles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder as registration writes it."""
    parts = tmp_path / "model/artifacts/model"
    parts.mkdir(parents=True)
    # The length of its header begins like a pickle of protocol 4 does.
    (parts / "model.safetensors").write_bytes((0x0480).to_bytes(8, "little") + b"{}")
    (parts / "config.json").write_text("{}")
    (parts.parent / "embeddings.npy").write_bytes(b"\x93NUMPY")
    (parts.parent / "catalogue.parquet").write_bytes(b"PAR1")
    return tmp_path / "model"


def test_what_registration_writes_is_let_through(folder: Path) -> None:
    refuse_pickles(folder)


@pytest.mark.parametrize("suffix", [*sorted(SUFFIXES), ".PKL"])
def test_a_pickle_is_refused_by_its_name(folder: Path, suffix: str) -> None:
    (folder / f"artifacts/model/extra{suffix}").write_bytes(b"")
    with pytest.raises(Pickled, match="extra"):
        refuse_pickles(folder)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_under_another_name_is_refused(folder: Path, protocol: int) -> None:
    (folder / "artifacts/notes.txt").write_bytes(pickle.dumps({"a": 1}, protocol))
    with pytest.raises(Pickled, match=r"notes\.txt"):
        refuse_pickles(folder)


def test_what_torch_writes_is_refused_under_any_name(folder: Path) -> None:
    torch.save({"a": torch.zeros(1)}, folder / "artifacts/model/config.dat")
    with pytest.raises(Pickled, match=r"config\.dat"):
        refuse_pickles(folder)


def test_a_zip_without_a_pickle_is_no_pickle(folder: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "a")
    (folder / "plots.zip").write_bytes(packed.getvalue())
    refuse_pickles(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (folder / "artifacts/link.json").symlink_to(tmp_path / "secret")
    with pytest.raises(Pickled, match="leads out"):
        refuse_pickles(folder)
