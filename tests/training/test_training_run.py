"""Training as a whole: it learns, repeats itself, resumes exactly, and refuses what cannot work."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from components.encoder.params import EncoderSection
from components.store import FeatureStore
from components.training import loop
from components.training.checkpoint import FILE, Checkpoints
from components.training.data import Features
from components.training.params import TrainingSection
from components.training.run import Trained, train
from tests.training.corpus_look_alike import PARAMS, write_corpus

ROOT = Path(__file__).parents[2]
OUTPUTS = ("model/model.safetensors", "model/config.json", "training/history.parquet", "training/summary.json")


def open_features(root: Path) -> Features:
    return Features(
        *(FeatureStore.open(root / "features" / name) for name in ("video", "music", "text", "annotations"))
    )


def run(root: Path, manifest: list[dict[str, Any]], checkpoints: Path, **changes: Any) -> Trained:
    section = TrainingSection.model_validate(PARAMS["training"] | changes)
    encoder = EncoderSection.model_validate(PARAMS["encoder"])
    return train(manifest, open_features(root), encoder, section, checkpoints)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("corpus")
    return root, write_corpus(root)


@pytest.fixture(scope="module")
def undisturbed(corpus: tuple[Path, list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(*corpus, tmp_path_factory.mktemp("undisturbed"))


def test_it_learns(undisturbed: Trained) -> None:
    loss = [row["value"] for row in undisturbed.history if row["name"] == "loss"]
    assert len(loss) == 60
    assert np.mean(loss[-5:]) < 0.7 * np.mean(loss[:5])
    best = undisturbed.summary["at_best_step"]
    assert best["val/video+text/MRR"] > 2 * np.mean([1 / rank for rank in range(1, 13)])  # twice chance among 12


def test_history_and_summary_hold_only_what_repeats(undisturbed: Trained) -> None:
    names = {row["name"] for row in undisturbed.history}
    modes = ("video", "text", "video+text")
    measured = {f"val/{mode}/{name}" for mode in modes for name in ("R@10", "MRR")}
    assert names == {"loss", "temperature", "grad_norm", "lr"} | measured
    assert undisturbed.summary["train_clips"] == {"used": 48, "captioned": 48, "annotated": 38}
    assert undisturbed.summary["stopped_because"] == "ran all steps"


def test_the_same_run_gives_the_same_weights(
    corpus: tuple[Path, list[dict[str, Any]]], undisturbed: Trained, tmp_path: Path
) -> None:
    torch.rand(7)  # the caller's random state must not matter
    again = run(*corpus, tmp_path)
    assert again.summary == undisturbed.summary
    assert again.history == undisturbed.history
    assert run(*corpus, tmp_path / "other", seed=6).summary["weights_sha256"] != again.summary["weights_sha256"]


@pytest.mark.parametrize("after", [1, 4])
def test_an_interrupted_run_resumes_to_the_same_bits(
    corpus: tuple[Path, list[dict[str, Any]]],
    undisturbed: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    after: int,
) -> None:
    saves, save = [], Checkpoints.save

    def interrupted(self: Checkpoints, *state: Any) -> None:
        save(self, *state)
        saves.append(1)
        if len(saves) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(*corpus, tmp_path)
    with caplog.at_level(logging.INFO):
        resumed = run(*corpus, tmp_path)
    assert f"resuming after step {10 * after}" in caplog.text
    assert resumed.summary == undisturbed.summary
    assert resumed.history == undisturbed.history


def test_a_checkpoint_of_other_parameters_or_data_is_ignored(
    corpus: tuple[Path, list[dict[str, Any]]], undisturbed: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, manifest = corpus
    run(root, manifest, tmp_path, learning_rate=0.001)
    assert (tmp_path / FILE).is_file()
    with caplog.at_level(logging.INFO):
        assert run(root, manifest, tmp_path).summary == undisturbed.summary
    assert "belongs to other data or parameters; starting anew" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run(root, [row for row in manifest if row["clip_id"] != "clip-0003"], tmp_path)
    assert "belongs to other data or parameters; starting anew" in caplog.text
    (tmp_path / FILE).write_bytes(b"half a file")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert run(root, manifest, tmp_path).summary == undisturbed.summary
    assert "cannot be read" in caplog.text


def command(root: Path, out: Path) -> list[str]:
    paths = {
        "manifest": root / "manifest.parquet", "video": root / "features/video", "music": root / "features/music",
        "text": root / "features/text", "annotations": root / "features/annotations", "model": out / "model",
        "history": out / "training/history.parquet", "summary": out / "training/summary.json",
        "checkpoints": out / "checkpoints",
    }  # fmt: skip
    return [sys.executable, "-m", "components.training", *(str(p) for k, v in paths.items() for p in (f"--{k}", v))]


def start(root: Path, out: Path, cwd: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(root, out), cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_kill_9_and_run_again_gives_the_same_files(corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    root, _ = corpus
    params = PARAMS | {"training": PARAMS["training"] | {"steps": 400, "validate_every": 20}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    undisturbed = start(root, whole, tmp_path)
    killed = start(root, broken, tmp_path)
    while killed.poll() is None and not (broken / "checkpoints" / FILE).is_file():
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (broken / "model").exists()

    resumed = start(root, broken, tmp_path)
    said, _ = resumed.communicate()
    assert resumed.returncode == 0
    assert b"resuming after step" in said
    _, errors = undisturbed.communicate()
    assert undisturbed.returncode == 0, errors.decode()
    for name in OUTPUTS:
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (broken / "checkpoints").exists()
    assert sorted(p.name for p in broken.iterdir()) == ["model", "training"]
    assert pq.read_schema(whole / OUTPUTS[2]).names == ["step", "name", "value"]


def test_clips_without_features_are_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lacking = {"video": {0, 1}, "music": {2}, "text": {5, 6, 7}}
    manifest = write_corpus(tmp_path, annotated=0.0, without=lacking)
    with caplog.at_level(logging.INFO):
        trained = run(tmp_path, manifest, tmp_path / "checkpoints", steps=10, warmup_steps=1)
    assert "3 of 48 train clips lack video or music features" in caplog.text
    assert trained.summary["train_clips"] == {"used": 45, "captioned": 42, "annotated": 0}


def test_a_corpus_without_any_text_trains_on_video_alone(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, annotated=0.0, without={"text": set(range(100))})
    trained = run(tmp_path, manifest, tmp_path / "checkpoints", steps=10, warmup_steps=1)
    assert not any(row["name"].startswith("val/text/") for row in trained.history)


@pytest.mark.parametrize(("split", "count"), [("train", 48), ("val", 12)])
def test_too_few_clips_are_refused_with_the_counts(
    corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path, split: str, count: int
) -> None:
    with pytest.raises(ValueError, match=f"{count} usable {split} clips, training.least_{split}_clips asks for 500"):
        run(*corpus, tmp_path, **{f"least_{split}_clips": 500})


def test_a_batch_above_the_clips_is_reduced_and_said(
    corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        trained = run(*corpus, tmp_path, batch=4096, steps=4, warmup_steps=1)
    assert "batch 4096 is more than the 48 train clips; using 48" in caplog.text
    assert trained.summary["batch"] == 48


def test_patience_ends_a_run_early_and_the_best_weights_stay(
    corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.3, 0.5, 0.4, 0.5, 0.2, 0.9])
    kept: list[torch.Tensor] = []

    def judged(model: Any, *_: Any) -> dict[str, float]:
        kept.append(model.query_head.weight.detach().clone())
        return {"val/video+text/MRR": next(values)}

    monkeypatch.setattr(loop, "validate", judged)
    trained = run(*corpus, tmp_path, patience=3)
    assert (trained.summary["best_step"], trained.summary["last_step"]) == (20, 50)
    assert trained.summary["stopped_because"] == "val MRR has not risen for 3 validations"
    assert torch.equal(trained.model.query_head.weight, kept[1])


def test_a_diverged_loss_is_said_plainly(
    corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = loop.make_batch

    def poisoned(*args: Any) -> Any:
        given, tracks = build(*args)
        values, mask = given["music"]
        return {**given, "music": (values * float("nan"), mask)}, tracks

    monkeypatch.setattr(loop, "make_batch", poisoned)
    with pytest.raises(ValueError, match=r"training diverged at step 1: loss nan.*lower training\.learning_rate"):
        run(*corpus, tmp_path)


def test_captions_and_annotations_must_share_their_extractor(tmp_path: Path) -> None:
    from components.increments import update_store

    write_corpus(tmp_path)
    spec = {"modality": "text", "dims": 3, "max_segments": 1}
    update_store(tmp_path / "features/annotations", spec, [], lambda _: iter(()), 64)
    with pytest.raises(ValueError, match="come from different text extractors"):
        open_features(tmp_path)
