"""`needledrop doctor --encoders`: what each encoder gives, and one line for one that cannot be loaded."""

import json
from pathlib import Path

import pytest
import yaml

from components.settings import PARAMS_FILE
from flows.cli import main
from tests.features import look_alikes


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose encoders are look-alikes in folders of its own."""
    look_alikes.clip(tmp_path / "models" / "clip")
    look_alikes.wave(tmp_path / "models" / "wave")
    params = look_alikes.section(
        video__model="models/clip", text__model="models/clip", music__model="models/wave"
    ).model_dump()
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / PARAMS_FILE).write_text(yaml.safe_dump({"features": params}))
    (tmp_path / "notes").mkdir()
    monkeypatch.chdir(tmp_path / "notes")
    monkeypatch.setattr("components.features.trial._LEAST_S", 0.0)  # a rate of one batch is enough here
    return tmp_path


def test_each_encoder_is_tried(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--encoders", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    found = {encoder["modality"]: encoder for encoder in report["encoders"]}
    assert report["ok"] and report["kind"] == "hf"
    assert {modality: encoder["dims"] for modality, encoder in found.items()} == {"video": 12, "text": 12, "music": 16}
    assert [encoder["unit"] for encoder in report["encoders"]] == ["frames", "texts", "segments"]
    assert all(encoder["rate"] > 0 and encoder["memory_mib"] >= 0 for encoder in report["encoders"])
    assert main(["doctor", "--encoders"]) == 0
    printed = capsys.readouterr().out
    assert "models/wave" in printed and "segments/s" in printed and "cpu float32" in printed


def test_one_that_cannot_be_loaded_is_one_line_and_1(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "models" / "wave" / "model.safetensors").write_bytes(b"damaged")
    assert main(["doctor", "--encoders"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: music: models/wave: its model cannot be used")
    assert "models/clip" in captured.out, "the others are tried all the same"
    assert main(["doctor", "--encoders", "--json"]) == 1
    assert [encoder["ok"] for encoder in json.loads(capsys.readouterr().out)["encoders"]] == [True, True, False]


def test_the_formulas_are_tried_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / PARAMS_FILE).write_text((Path(__file__).parents[2] / PARAMS_FILE).read_text())
    assert main(["doctor", "--encoders", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "embedded" and all(encoder["dims"] > 0 for encoder in report["encoders"])


def test_a_wrong_key_is_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / PARAMS_FILE).write_text("features: {kind: hf}")
    assert main(["doctor", "--encoders"]) == 2
    assert "features.segment_s: missing" in capsys.readouterr().err
