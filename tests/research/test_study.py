"""The study: what it plans, how it adds up, what it says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from components import tables
from components.evaluation.metrics_file import write_metrics
from components.evaluation.retrieval import RANKS
from research import gpu
from research.corpus import Corpus
from research.figures import draw
from research.jobs import name_of_music_videos, plan_jobs
from research.page import write_page
from research.results import difference, read_queries, read_row
from research.settings import FILE, StudySettings, merged, read_settings
from research.tables import Study, read_study
from research.work import ORACLE
from tests.evaluation.made_metrics import made_metrics

ROOT = Path(__file__).parents[2]
CLIPS = 60
SMALL: dict[str, Any] = {
    "corpus": {},
    "evaluation": {"pool_size": None},
    "seeds": [1, 2],
    "processes": 1,
    "texts": {"analogy": {}, "tags": {"kind": "tags"}},
    "common": {"training": {"steps": 50}},
    "base": {"training": {"video_dropout": 0.0}},
    "experiments": {
        "A": {
            "title": "Systems",
            "rows": [
                {"name": "good", "fit": "trimodal"},
                {"name": "poor", "fit": "trimodal", "change": {"training": {"text_dropout": 0.0}}},
                {"name": "both", "fit": "late-fusion", "of": ["good", "poor"]},
                {"name": "chance", "fit": "chance"},
            ],
        },
        "C": {"title": "A curve", "axis": "dropout", "rows": [{"name": "0.5", "fit": "trimodal"}, {"name": "0", "fit": "trimodal", "text": "tags"}]},
    },
    "claims": [
        {"says": "good is better", "experiment": "A", "row": "good", "against": "poor", "mode": "video+text"},
        {"says": "poor is better", "experiment": "A", "row": "poor", "against": "good", "mode": "video+text"},
        {"says": "good equals itself", "experiment": "A", "row": "good", "against": "good", "mode": "video"},
        {"says": "near the limit", "experiment": "A", "row": "good", "against": "oracle", "mode": "video", "ratio": 0.5},
    ],
}  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Files whose content only names them, and a manifest of as many artists as clips."""
    stores = {name: tmp_path / name for name in ("video", "music", "annotations", "text-analogy", "text-tags")}
    for name, folder in stores.items():
        folder.mkdir()
        (folder / "spec.json").write_text(name)
    files = {name: tmp_path / f"{name}.parquet" for name in ("manifest", "tags", "truth")}
    for name in ("tags", "truth"):
        files[name].write_text(name)
    rows = [
        {name: f"{name}-{at}" for name in ("video_id", "track_id", "artist_id", "uri", "sha256", "container")}
        | {"clip_id": f"clip-{at:03}", "split": "test", "bytes": 1, "duration_s": 8.0, "start_s": 0.0, "end_s": 8.0}
        for at in range(CLIPS)
    ]
    known = {field.name for field in tables.MANIFEST}
    filler = {field.name: None for field in tables.MANIFEST if field.nullable}
    required = {field.name: 1 for field in tables.MANIFEST if not field.nullable}
    complete = [{k: v for k, v in (required | filler | row).items() if k in known} for row in rows]
    tables.write_rows(files["manifest"], complete, tables.MANIFEST)
    texts = {name: stores[f"text-{name}"] for name in ("analogy", "tags")}
    return Corpus(files | {name: stores[name] for name in ("video", "music", "annotations")}, texts)


def settings(**changes: Any) -> StudySettings:
    return StudySettings.model_validate(SMALL | changes)


def write_result(folder: Path, ranks: np.ndarray, fit: str = "trimodal") -> None:
    """A result folder in which every mode has the same ranks (CLIPS,)."""
    folder.mkdir(parents=True)
    rows = [
        {"level": "track", "direction": "video_to_music", "mode": mode, "clip_id": f"clip-{at:03}", "rank": int(rank),
         "pool": CLIPS, "pool_number": 0, "positive_score": 0.5, "top_clip_id": "clip-000"}
        for mode in ("video", "text", "video+text") for at, rank in enumerate(ranks)
    ]  # fmt: skip
    tables.write_rows(folder / "ranks.parquet", rows, RANKS)
    best = [{"clip_id": row["clip_id"], "mode": row["mode"], "rank": 1} for row in rows]
    tables.write_rows(folder / "oracle.parquet", best, ORACLE, ("mode", "clip_id"))
    write_metrics(folder / "metrics.json", made_metrics(CLIPS))
    (folder / "job.json").write_text(
        json.dumps({"fit": fit, "text": "analogy", "clips": None, "sections": {}, "cpu_s": 6.0})
    )


@pytest.fixture
def study(corpus: Corpus, tmp_path: Path) -> Study:
    asked = settings()
    planned = plan_jobs(asked, corpus, ROOT)
    good, poor = np.ones(CLIPS, int), np.full(CLIPS, 30)
    good[:12] = 40  # a fifth is missed
    poor[:6] = 1  # a tenth is found
    for (_, name), jobs in planned.items():
        for job in jobs:
            folder = tmp_path / "results" / job.name
            if not folder.exists():
                write_result(folder, poor if name in ("poor", "chance") else good, job.fit)
    manifest_rows = tables.read_rows(corpus.files["manifest"], tables.MANIFEST)
    for at, split in enumerate(("train", "val")):
        manifest_rows.append(manifest_rows[0] | {"clip_id": f"other-{at}", "split": split})
    tables.write_rows(corpus.files["manifest"], manifest_rows, tables.MANIFEST)
    return read_study(asked, planned, tmp_path / "results", corpus, None)


def test_the_study_file_of_the_project_is_right() -> None:
    asked = read_settings()
    assert {claim.experiment for claim in asked.claims} <= set(asked.experiments)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for experiment in asked.experiments.values():
        for row in experiment.rows:
            from components.encoder.params import EncoderSection
            from components.settings import parse_section
            from components.training.params import TrainingSection

            tree = merged(merged(merged(params, asked.common), asked.base), row.change)
            parse_section(EncoderSection, "encoder", tree)
            parse_section(TrainingSection, "training", tree)


def test_changes_are_laid_over_and_another_kind_replaces() -> None:
    tree = {"a": {"x": 1, "y": 2}, "fusion": {"kind": "transformer", "layers": 1}}
    assert merged(tree, {"a": {"y": 3}}) == {"a": {"x": 1, "y": 3}, "fusion": tree["fusion"]}
    assert merged(tree, {"fusion": {"kind": "mean"}})["fusion"] == {"kind": "mean"}
    assert merged(tree, {"fusion": {"layers": 2}})["fusion"] == {"kind": "transformer", "layers": 2}
    assert tree["a"] == {"x": 1, "y": 2}


def test_equal_work_has_one_name_and_unequal_work_another(corpus: Corpus) -> None:
    planned = plan_jobs(settings(), corpus, ROOT)
    assert [job.name for job in planned["A", "good"]] == [job.name for job in planned["C", "0.5"]]
    names = {job.name for jobs in planned.values() for job in jobs}
    assert len(names) == 2 + 2 + 2 + 1 + 2  # good, poor, both, chance (drawn once), and captions of another kind
    assert [job.parts for job in planned["A", "both"]] == [
        (one.name, other.name) for one, other in zip(planned["A", "good"], planned["A", "poor"], strict=True)
    ]
    (corpus.texts["tags"] / "spec.json").write_text("other captions")
    again = plan_jobs(settings(), corpus, ROOT)
    assert again["A", "good"] == planned["A", "good"]
    assert again["C", "0"] != planned["C", "0"]


def test_the_order_of_rows_does_not_matter_to_late_fusion(corpus: Corpus) -> None:
    rows = SMALL["experiments"]["A"]["rows"]
    turned = settings(experiments=SMALL["experiments"] | {"A": {"title": "t", "rows": rows[::-1]}})
    assert plan_jobs(turned, corpus, ROOT)["A", "both"][0].parts


def test_recalls_and_differences_are_those_of_the_ranks(study: Study) -> None:
    recall = study.recall(("A", "good"), "video+text")
    assert recall.value == pytest.approx(0.8)
    assert 0.65 < recall.low < 0.8 < recall.high < 0.92
    gain = difference(study.rows["A", "good"], study.rows["A", "poor"], "video+text", study.queries)
    # 48 of 60 against 6 of 60, and the 6 are among the 12 that the good one misses.
    assert gain.value == pytest.approx(42 / 60)
    assert study.share(("A", "good"), "video") == pytest.approx(0.8)
    assert study.rows["A", "poor"].median("text") == 30


def test_claims_are_decided_by_the_interval(study: Study) -> None:
    assert [verdict.held for verdict in study.verdicts] == [True, False, None, True]


def test_seeds_are_averaged(tmp_path: Path, corpus: Corpus) -> None:
    write_result(tmp_path / "r" / "one", np.ones(CLIPS, int))
    write_result(tmp_path / "r" / "two", np.full(CLIPS, 11))
    folders = [tmp_path / "r" / "one", tmp_path / "r" / "two"]
    queries = read_queries(folders[0], corpus.files["manifest"])
    assert read_row(folders, queries).hits("video", 10).tolist() == [0.5] * CLIPS


def test_the_page_says_what_was_found(study: Study, tmp_path: Path) -> None:
    page = write_page(study, tmp_path / "docs-of-study").read_text()
    assert "| good is better | good, R@10 of video+text: +0.700 [" in page
    assert "**did not hold**" in page and "**not decided**" in page
    assert "| good | 0.800 [" in page
    assert "| oracle | 1.000 | 1.000 | 1.000 |" in page
    assert "Left out: the features of MuVi-Sync were not given" in page
    assert all(
        (tmp_path / "docs-of-study" / path.name).stat().st_size > 5000 for path in draw(study, tmp_path).values()
    )


def test_the_page_has_what_a_gpu_was_measured_to_do(study: Study, tmp_path: Path) -> None:
    assert (
        "Not measured. Where there is a GPU: `python -m benchmarks.training" in write_page(study, tmp_path).read_text()
    )
    run = {
        "device": "GPU A", "dtype": "bfloat16", "torch": "2.0", "date": "2026-01-02", "width": 256, "layers": 2,
        "batch": 4096, "milliseconds": {"floor": 5.04, "step": 12.0, "step, features on disk": 20.0},
        "clips": 100_000, "epoch_s": 0.5, "peak_memory_gib": 5.59,
    }  # fmt: skip
    (tmp_path / gpu.FILE).write_text(
        json.dumps([run, run | {"device": "GPU B", "milliseconds": {"floor": 1.0, "step": 2.0}}])
    )
    page = write_page(study, tmp_path).read_text()
    first = "| GPU A, bfloat16, torch 2.0, 2026-01-02 | 256, 2 | 4,096 | 5.0 ms | 12.0 ms (20.0) | 0.42 "
    assert f"{first}| 100,000 clips in 0.50 s | 196,608 | 5.6 GiB |" in page
    assert "| GPU B, bfloat16, torch 2.0, 2026-01-02 | 256, 2 | 4,096 | 1.0 ms | 2.0 ms | 0.50 |" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": []}, "seeds"),
        ({"claims": [SMALL["claims"][0] | {"row": "best"}]}, "experiment A has no row 'best'"),
        ({"claims": [SMALL["claims"][0] | {"against": "oracle"}]}, "nothing lies above the oracle"),
        ({"experiments": {"A": {"title": "t", "rows": [{"name": "x", "fit": "late-fusion"}]}}}, "needs two names"),
        (
            {"experiments": {"A": {"title": "t", "rows": [{"name": "x", "fit": "trimodal", "text": "jokes"}]}}},
            "'jokes'",
        ),
    ],
)
def test_a_wrong_study_file_is_one_clear_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(SMALL | change))
    with pytest.raises(ValueError, match=r"study\.yaml: ") as error:
        read_settings(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert FILE.is_file()


def test_the_result_on_music_videos_is_named_by_the_code_that_makes_it(tmp_path: Path) -> None:
    (tmp_path / "research").mkdir()
    (tmp_path / "research/music_videos.py").write_text("from research.music_video_cca import a")
    code = tmp_path / "research/music_video_cca.py"
    (tmp_path / "features").mkdir()
    names = []
    for text in ("a = 1", "a = 2", "a = 1  # a remark"):
        code.write_text(text)
        names.append(name_of_music_videos(tmp_path, tmp_path / "features"))
    assert names[0] == names[2] != names[1]
