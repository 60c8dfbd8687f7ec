"""The catalogue: right rows, stable order, the same bytes, and refusal of what does not fit together."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from components import tables
from components.encoder.model import TrimodalModel
from components.encoder.params import EncoderSection
from components.encoder.serialise import load_model, save_model
from components.indexing.catalogue import CATALOGUE, catalogue_rows, write_catalogue
from components.indexing.params import IndexingSection
from components.indexing.search import Catalogue
from components.modalities import MODALITIES
from components.store import FeatureStore
from tests.training.corpus_look_alike import PARAMS, write_corpus

ROOT = Path(__file__).parents[2]


def section(**changes: Any) -> IndexingSection:
    return IndexingSection.model_validate(PARAMS["indexing"] | changes)


def rows_for(count: int) -> list[dict[str, Any]]:
    return [
        {"clip_id": f"clip-{at:05d}", "track_id": f"t{at}", "artist": None, "title": None, "uri": f"{at}.mp4",
         "start_s": 0.0, "end_s": 8.0, "split": "train", "tags": []}
        for at in range(count)
    ]  # fmt: skip


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def write(folder: Path, embeddings: np.ndarray, **changes: Any) -> Catalogue:
    folder.mkdir(exist_ok=True)
    write_catalogue(folder, rows_for(len(embeddings)), embeddings, {"model": "m" * 64}, section(**changes))
    return Catalogue.open(folder)


def best_first(embeddings: np.ndarray, query: np.ndarray) -> list[str]:
    scores = (embeddings * query).sum(axis=1)
    return [f"clip-{at:05d}" for at in np.lexsort((np.arange(len(scores)), -scores))]


def test_exact_search_is_the_sorted_cosine(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    embeddings = unit(rng, 200, 16)
    catalogue = write(tmp_path / "index", embeddings)
    assert catalogue.meta["index"] == "exact"
    for query in unit(rng, 20, 16):
        found = catalogue.search(query, 10)
        assert [row["clip_id"] for row in found] == best_first(embeddings, query)[:10]
        assert found[0]["score"] == pytest.approx(float((embeddings @ query).max()), abs=1e-6)
    assert len(catalogue.search(unit(rng, 16), 5000)) == 200


def test_equal_scores_are_ordered_by_clip_id_even_across_the_cut(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    embeddings = np.repeat(unit(rng, 1, 16), 120, axis=0)
    embeddings[60] = -embeddings[60]
    found = write(tmp_path / "index", embeddings).search(embeddings[0], 7)
    assert [row["clip_id"] for row in found] == [f"clip-{at:05d}" for at in range(7)]
    assert len({row["score"] for row in found}) == 1


def test_large_catalogues_are_approximate_with_exact_scores(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    centres = unit(rng, 40, 16)
    embeddings = unit(rng, 3000, 16) * 0.5 + centres[rng.integers(40, size=3000)]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    options = {"exact_below": 100, "clips_per_list": 60, "probes": 12, "rerank": 10}
    catalogue = write(tmp_path / "one", embeddings, **options)
    assert catalogue.meta["index"] == "ivf-sq8"
    hits = []
    for query in unit(rng, 40, 16) * 0.3 + centres:
        query /= np.linalg.norm(query)
        found = catalogue.search(query, 10)
        hits.append(len({row["clip_id"] for row in found} & set(best_first(embeddings, query)[:10])) / 10)
        scores = [row["score"] for row in found]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] == pytest.approx(float(embeddings[int(found[0]["clip_id"][5:])] @ query), abs=1e-6)
    assert np.mean(hits) >= 0.95
    write(tmp_path / "two", embeddings, **options)
    for name in ("index.faiss", "embeddings.npy", "catalogue.parquet", "meta.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_tags_are_listed_from_the_threshold_up() -> None:
    manifest = [dict.fromkeys(CATALOGUE.names) | {"clip_id": "b"}, dict.fromkeys(CATALOGUE.names) | {"clip_id": "a"}]
    tags = [{"clip_id": "a", "tags": [{"group": "genres", "name": "folk", "probability": 0.3},
                                      {"group": "moods", "name": "sad", "probability": 0.29}]}]  # fmt: skip
    found = catalogue_rows(manifest, tags, 0.3)
    assert [(row["clip_id"], row["tags"]) for row in found] == [("a", ["genres:folk"]), ("b", [])]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "index.faiss").unlink(), r"index\.faiss: no such file; run indexing first"),
        (lambda folder: (folder / "meta.json").write_text("{}"), "damaged"),
        (lambda folder: (folder / "index.faiss").write_bytes(b"rubbish"), "damaged"),
        (lambda folder: np.save(folder / "embeddings.npy", np.zeros((3, 16), np.float32)), "files of different runs"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    write(tmp_path / "index", unit(np.random.default_rng(3), 20, 16))
    spoil(tmp_path / "index")
    with pytest.raises(ValueError, match=message):
        Catalogue.open(tmp_path / "index")


def test_another_models_index_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "index", unit(np.random.default_rng(3), 20, 16))
    Catalogue.open(tmp_path / "index", model_digest="m" * 64)
    with pytest.raises(ValueError, match="made with model mmmmmmmmmmmm, not nnnnnnnnnnnn"):
        Catalogue.open(tmp_path / "index", model_digest="n" * 64)


def test_bad_queries_are_refused(tmp_path: Path) -> None:
    catalogue = write(tmp_path / "index", unit(np.random.default_rng(3), 20, 16))
    with pytest.raises(ValueError, match="k must be at least 1"):
        catalogue.search(np.zeros(16, np.float32), 0)
    with pytest.raises(ValueError, match="16 finite numbers"):
        catalogue.search(np.zeros(15, np.float32), 1)
    with pytest.raises(ValueError, match="16 finite numbers"):
        catalogue.search(np.full(16, np.nan, np.float32), 1)


def test_the_stage_indexes_every_clip_that_has_music(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, without={"music": {3}})
    stores = {m: FeatureStore.open(tmp_path / "features" / m) for m in MODALITIES}
    torch.manual_seed(0)
    model = TrimodalModel(
        EncoderSection.model_validate(PARAMS["encoder"]), {m: stores[m].spec["dims"] for m in MODALITIES}
    )
    (tmp_path / "model").mkdir()
    save_model(tmp_path / "model", model, {m: stores[m].digest for m in MODALITIES})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    command = [
        sys.executable, "-m", "components.indexing", "--manifest", "manifest.parquet", "--music", "features/music",
        "--tags", "tags.parquet", "--model", "model", "--index", "index",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "indexing: 75 clips (1 without music features left out)" in done.stdout
    loaded = load_model(tmp_path / "model")
    catalogue = Catalogue.open(tmp_path / "index", model_digest=loaded.digest)
    assert [row["clip_id"] for row in catalogue.rows] == [r["clip_id"] for r in manifest if r["clip_id"] != "clip-0003"]
    assert catalogue.rows[0]["tags"] == ["genres:folk"]
    assert json.loads((tmp_path / "index/meta.json").read_text())["splits"] == {"train": 47, "val": 12, "test": 16}
    music = loaded.model.embed_music(stores["music"].gather(["clip-0010"]))[0]
    np.testing.assert_allclose(catalogue.embeddings[9], music, atol=1e-6)
    top = catalogue.search(music, 1)[0]
    assert (top["clip_id"], top["title"]) == ("clip-0010", "Title 10")
    assert tables.read_table(tmp_path / "index/catalogue.parquet", CATALOGUE).num_rows == 75
