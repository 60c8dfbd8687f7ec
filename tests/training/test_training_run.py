"""Training as a whole: it learns, repeats itself, resumes exactly, and refuses what cannot work."""

import json
import logging
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from components.code import covered
from components.encoder.params import EncoderSection
from components.training import loop, world
from components.training.checkpoint import FILE, Checkpoints
from components.training.journal import JournalWriter, read_journal
from components.training.loop import MONITORED
from components.training.params import TrainingSection
from components.training.run import Trained, train
from tests.traced import ran
from tests.training.corpus_look_alike import PARAMS, open_features, write_corpus
from tests.training.stage import start, wait_for_a_checkpoint

ROOT = Path(__file__).parents[2]
OUTPUTS = ("model/model.safetensors", "model/config.json", "training/history.parquet", "training/summary.json")


def run(root: Path, manifest: list[dict[str, Any]], checkpoints: Path, **changes: Any) -> Trained:
    section = TrainingSection.model_validate(PARAMS["training"] | changes)
    encoder = EncoderSection.model_validate(PARAMS["encoder"])
    return train(manifest, open_features(root), encoder, section, checkpoints, checkpoints.with_suffix(".jsonl"))


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
    assert names == {"loss", "loss/fused-music", "temperature", "grad_norm", "lr"} | measured
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


def test_a_checkpoint_of_other_parameters_or_data_or_a_broken_one_is_ignored(
    corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, manifest = corpus
    few = {"steps": 10, "warmup_steps": 1}
    expected = run(root, manifest, tmp_path / "other", **few).summary
    run(root, manifest, tmp_path, **few, learning_rate=0.001)
    assert (tmp_path / FILE).is_file()
    with caplog.at_level(logging.INFO):
        assert run(root, manifest, tmp_path, **few).summary == expected
    assert "belongs to other data, parameters or code; starting anew" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run(root, [row for row in manifest if row["clip_id"] != "clip-0003"], tmp_path, **few)
    assert "belongs to other data, parameters or code; starting anew" in caplog.text
    (tmp_path / FILE).write_bytes(b"half a file")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert run(root, manifest, tmp_path, **few).summary == expected
    assert "cannot be read" in caplog.text


def same_files(out: Path, trained: Trained) -> None:
    """Compare what the stage wrote with a run in this process."""
    whole = out.with_name("whole")
    trained.write(whole / "model", whole / "training/history.parquet", whole / OUTPUTS[3])
    for name in OUTPUTS:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert sorted(p.name for p in out.iterdir()) == ["journal.jsonl", "model", "training"]


def test_kill_9_and_run_again_gives_the_same_files(corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    root, manifest = corpus
    out, longer = tmp_path / "broken", {"steps": 100}
    killed = start(root, out, tmp_path, **longer)
    wait_for_a_checkpoint(killed, out)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (out / "model").exists()

    resumed = start(root, out, tmp_path, **longer)
    said, errors = resumed.communicate()
    assert resumed.returncode == 0, errors.decode()
    assert b"resuming after step" in said
    same_files(out, run(root, manifest, tmp_path / "undisturbed", **longer))
    assert pq.read_schema(out / OUTPUTS[2]).names == ["step", "name", "value"]
    journal = read_journal(out / "journal.jsonl")
    assert journal is not None
    assert journal.weights_sha256 == json.loads((out / OUTPUTS[3]).read_text())["weights_sha256"]
    assert {10, 20, 90, 100} <= {line.step for line in journal.lines}, "the killed part's lines too, once each"
    assert len({line.step for line in journal.lines}) == len(journal.lines)
    said_of = {(row["step"], row["name"]): row["value"] for row in pq.read_table(out / OUTPUTS[2]).to_pylist()}
    for line in journal.lines:
        told = dict(line.figures)
        assert told.pop("progress/samples_per_s") > 0 and told.pop("progress/memory_mib") > 50
        assert told == {name: value for (step, name), value in said_of.items() if step == line.step}
    speed = journal.speed
    assert speed.keys() == {"samples_per_s", "seconds", "peak_memory_mib", "device", "processes", "steps"}
    assert speed["samples_per_s"] > 0 and speed["peak_memory_mib"] > 50 and speed["steps"] < 100


def test_a_journal_is_of_one_training_and_half_a_line_of_it_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    writer = JournalWriter(path, "data 1")
    writer.begin(resumed=False)
    writer.note(10, {"loss": 2.0, "bias": float("nan")})
    first = read_journal(path)
    assert first is not None and first.bound_to == "data 1"
    assert [(line.step, line.figures) for line in first.lines] == [(10, {"loss": 2.0})]
    with path.open("a") as file:
        file.write('{"step": 20, "at": 1.0, "figu')  # a kill in the middle of a line
    assert read_journal(path) == first

    again = JournalWriter(path, "data 1")
    again.begin(resumed=True)
    again.note(10, {"loss": 2.0})
    again.note(20, {"loss": 1.0})
    resumed = read_journal(path)
    assert resumed is not None and resumed.training == first.training
    assert [(line.step, line.figures) for line in resumed.lines] == [(10, {"loss": 2.0}), (20, {"loss": 1.0})]

    for bound_to, resuming in (("data 2", True), ("data 1", False)):
        JournalWriter(path, bound_to).begin(resumed=resuming)
        other = read_journal(path)
        assert other is not None and (other.bound_to, other.lines) == (bound_to, ())
        assert other.training != first.training


@pytest.mark.stack
def test_a_killed_worker_is_started_again_and_the_run_goes_on(
    corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    out = tmp_path / "broken"
    launched = start(corpus[0], out, tmp_path, processes=2, restarts=1)
    wait_for_a_checkpoint(launched, out)
    victim = psutil.Process(launched.pid).children()[-1]
    victim.kill()
    said, errors = launched.communicate()
    assert launched.returncode == 0, errors.decode()
    assert said.count(b"resuming after step") == 1, "rank 0 alone speaks"
    summary = json.loads((out / "training/summary.json").read_text())
    assert summary["last_step"] == 60
    assert summary["cut"] == [{"from_step": 0, "processes": 2, "chunk": None}]
    journal = read_journal(out / "journal.jsonl")
    assert journal is not None and journal.speed["processes"] == 2 and journal.lines[-1].step == 60
    assert not (out / "checkpoints").exists()


def test_what_a_worker_says_is_said_once() -> None:
    said = world.said(1, 1, {"message": "ValueError: training diverged at step 3: loss nan"}, 0)
    assert said == "training diverged at step 3: loss nan"
    said = world.said(1, -9, "Signal 9 (SIGKILL) received by PID 12", 2)
    assert said.startswith("training process 1 was ended by SIGKILL, training.restarts 2 used up; run again")
    assert "failed with exit code 1 (see above)" in world.said(0, 1, "<NONE>", 0)


def test_more_workers_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"training\.processes 4, but this machine has 1 GPU"):
        world.start_workers(TrainingSection.model_validate(PARAMS["training"] | {"processes": 4}))


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
    values = iter([(0.3, 0.9), (0.5, 0.4), (0.4, 0.9), (0.5, 0.4), (0.5, 0.3), (0.9, 0.9)])
    kept: list[torch.Tensor] = []

    def judged(model: Any, *_: Any) -> dict[str, float]:
        kept.append(model.query_head.weight.detach().clone())
        return dict(zip(MONITORED, next(values), strict=True))

    monkeypatch.setattr(loop, "validate", judged)
    trained = run(*corpus, tmp_path, patience=3)
    assert (trained.summary["best_step"], trained.summary["last_step"]) == (20, 50)
    assert trained.summary["stopped_because"] == "val R@10 has not risen for 3 validations"
    assert torch.equal(trained.model.query_head.weight, kept[1])


def test_a_diverged_loss_is_said_plainly(
    corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = loop.on_device

    def poisoned(*args: Any) -> Any:
        given, same = send(*args)
        values, mask = given["music"]
        return {**given, "music": (values * float("nan"), mask)}, same

    monkeypatch.setattr(loop, "on_device", poisoned)
    with pytest.raises(ValueError, match=r"training diverged at step 1: loss nan.*lower training\.learning_rate"):
        run(*corpus, tmp_path)


def test_captions_and_annotations_must_share_their_extractor(tmp_path: Path) -> None:
    from components.increments import update_store

    write_corpus(tmp_path)
    spec = {"modality": "text", "dims": 3, "max_segments": 1}
    update_store(tmp_path / "features/annotations", spec, [], lambda _: iter(()), 64)
    with pytest.raises(ValueError, match="come from different text extractors"):
        open_features(tmp_path)


# -- features that cannot be used --------------------------------------------------------------------


def overwrite(root: Path, store: str, clips: list[int], value: float) -> None:
    """Put a value into every place of clips of a store (one shard, clips in order)."""
    path = root / "features" / store / "shard-00000.npy"
    values = np.load(path)
    values[clips] = value
    np.save(path, values)


def test_clips_with_nan_or_infinity_are_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = write_corpus(tmp_path, annotated=0.0)
    overwrite(tmp_path, "music", [3], np.nan)
    overwrite(tmp_path, "video", [7], -np.inf)
    overwrite(tmp_path, "text", [9, 10], np.nan)
    with caplog.at_level(logging.INFO):
        trained = run(tmp_path, manifest, tmp_path / "checkpoints", steps=10, warmup_steps=1)
    assert "2 train clips have NaN or infinite features and are left out, first clip-0003" in caplog.text
    assert "2 texts of" in caplog.text
    assert "count as none, first clip-0009" in caplog.text
    assert trained.summary["train_clips"]["used"] == 46
    assert all(np.isfinite(row["value"]) for row in trained.history)


@pytest.mark.parametrize("store", ["video", "music", "text"])
def test_constant_features_are_no_information_and_no_harm(tmp_path: Path, store: str) -> None:
    manifest = write_corpus(tmp_path, annotated=0.0)
    overwrite(tmp_path, store, list(range(64)), 3.0)
    trained = run(tmp_path, manifest, tmp_path / "checkpoints", steps=10, warmup_steps=1)
    assert all(np.isfinite(row["value"]) for row in trained.history)
    assert all(p.isfinite().all() for p in trained.model.parameters())


def test_clips_of_one_track_are_refused(corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    root, manifest = corpus
    alike = [row | {"track_id": "the one"} for row in manifest]
    with pytest.raises(ValueError, match=r"all 48 usable train clips are of one track \(the one\)"):
        run(root, alike, tmp_path)


# -- checkpoints that are not ours ---------------------------------------------------------------------


def test_a_pickled_checkpoint_is_refused_and_left_alone(
    corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    (tmp_path / "last.pt").write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"last\.pt: pickled checkpoints can run code and are never loaded"):
        run(*corpus, tmp_path)
    assert (tmp_path / "last.pt").is_file()


def test_tensors_of_something_else_are_no_checkpoint(
    corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file({"weight": torch.ones(3)}, tmp_path / FILE)
    with caplog.at_level(logging.INFO):
        trained = run(*corpus, tmp_path, steps=10, warmup_steps=1)
    assert "is no checkpoint of training; starting anew" in caplog.text
    (tmp_path / "notes.txt").write_text("keep me")
    trained.checkpoints.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_features_of_another_extractor_start_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = write_corpus(tmp_path)
    run(tmp_path, manifest, tmp_path / "checkpoints", steps=10, warmup_steps=1)
    path = tmp_path / "features/music/spec.json"
    head = json.loads(path.read_text())
    path.write_text(json.dumps(head | {"spec": head["spec"] | {"made_by": "another"}}))
    with caplog.at_level(logging.INFO):
        run(tmp_path, manifest, tmp_path / "checkpoints", steps=10, warmup_steps=1)
    assert "belongs to other data, parameters or code; starting anew" in caplog.text


def test_a_sigmoid_run_records_its_bias(corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    plain = {key: value for key, value in PARAMS["encoder"]["loss"].items() if key != "hard_negatives"}
    loss = plain | {"kind": "sigmoid", "initial_bias": -3.0}
    section = TrainingSection.model_validate(PARAMS["training"] | {"steps": 10, "warmup_steps": 1})
    encoder = EncoderSection.model_validate(PARAMS["encoder"] | {"loss": loss})
    history = train(corpus[1], open_features(corpus[0]), encoder, section, tmp_path, tmp_path / "journal.jsonl").history
    biases = [row["value"] for row in history if row["name"] == "bias"]
    assert len(biases) == 10
    assert biases[0] == pytest.approx(-3.0)


def test_all_that_trains_is_covered_by_what_a_checkpoint_is_bound_to(
    corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    listed, folders = covered(train), iter((tmp_path / "1", tmp_path / "2"))
    used = ran(lambda: run(*corpus, next(folders), steps=10, warmup_steps=1), listed)
    opened = {"components.store:FeatureStore", "components.training.data:Features"}  # by the caller
    assert {"components.encoder.model:TrimodalModel", "components.training.loop:fit"} <= used
    assert used <= {*listed, *opened}


@pytest.mark.parametrize("mended", [True, False])
def test_a_checkpoint_of_other_code_is_not_taken_up_and_a_comment_is_no_other_code(
    corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path, mended: bool
) -> None:
    shutil.copytree(ROOT / "components", tmp_path / "components", ignore=shutil.ignore_patterns("__pycache__"))
    out, longer = tmp_path / "out", {"steps": 100}
    killed = start(corpus[0], out, tmp_path, code=tmp_path, **longer)
    wait_for_a_checkpoint(killed, out)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL, "the run ended before it could be killed"

    path = tmp_path / "components" / "training" / "batches.py"
    text = path.read_text()
    assert text.count("beta(") == 1
    path.write_text(text.replace("beta(", "beta(1 * ") if mended else f"# A comment.\n{text}")
    again = start(corpus[0], out, tmp_path, code=tmp_path, **longer)
    said = again.communicate()[0].decode()
    assert again.returncode == 0
    assert ("belongs to other data, parameters or code; starting anew" in said) == mended
    assert ("resuming after step" in said) != mended
