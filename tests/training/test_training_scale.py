"""Work cut into chunks or over processes gives what a whole batch in one process gives."""

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.encoder.losses import Identities
from components.encoder.model import TrimodalModel
from components.encoder.params import EncoderSection
from components.modalities import MODALITIES
from components.stage import write_json
from components.training.gradients import Step, advice, cached, largest_that_fits, whole
from components.training.params import TrainingSection
from components.training.run import Trained, train
from components.training.world import World
from tests.training.corpus_look_alike import PARAMS, open_features, write_corpus

Manifest = list[dict[str, Any]]
CPU = torch.device("cpu")
EVERY_TERM = {"fused-music": 1.0, "video-music": 0.5, "text-music": 0.25, "video-text": 0.125}
SMOOTH = {"dropout": 0.0, "input_dropout": 0.0, "input_noise": {"video": 0.0, "text": 0.0, "music": 0.0}}
# AdamW's first steps have the size of the rate whatever the gradient: rounding must not decide their sign.
FEW = {"steps": 8, "warmup_steps": 1, "validate_every": 4, "learning_rate": 1e-4}


def encoder(**changes: Any) -> EncoderSection:
    return EncoderSection.model_validate(PARAMS["encoder"] | changes)


def with_terms(terms: dict[str, float], **changes: Any) -> dict[str, Any]:
    return {"loss": PARAMS["encoder"]["loss"] | {"terms": terms} | changes}


def run(root: Path, manifest: Manifest, checkpoints: Path, shape: EncoderSection, **changes: Any) -> Trained:
    return train(
        manifest,
        open_features(root),
        shape,
        TrainingSection.model_validate(PARAMS["training"] | FEW | changes),
        checkpoints,
        checkpoints.with_suffix(".jsonl"),
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("corpus")
    return root, write_corpus(root)


# -- gradient caching ------------------------------------------------------------------------------


def example(shape: EncoderSection) -> tuple[TrimodalModel, dict[Any, Any], Identities]:
    torch.manual_seed(0)
    dims = dict.fromkeys(MODALITIES, 6)
    model = TrimodalModel(shape, dims).train()
    batch: dict[Any, Any] = {m: (torch.randn(10, 3, 6), torch.ones(10, 3, dtype=torch.bool)) for m in MODALITIES}
    batch["text"][1][[0, 7]] = False
    return model, batch, Identities(torch.arange(10) // 2, torch.arange(10), None)


def gradients(model: TrimodalModel) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("chunk", [1, 4, 10])
@pytest.mark.parametrize("changes", [with_terms(EVERY_TERM), with_terms({**EVERY_TERM, "fused-music": 0.0})])
def test_a_cached_gradient_is_the_whole_one(changes: dict[str, Any], chunk: int) -> None:
    model, batch, same = example(encoder(**SMOOTH, **changes))
    step = Step(model, CPU, "auto")
    plain, expected = whole(step, batch, same, torch.manual_seed), gradients(model)
    model.zero_grad(set_to_none=True)
    terms = cached(step, batch, same, chunk, torch.manual_seed)
    found = gradients(model)
    assert terms.keys() == plain.keys()
    torch.testing.assert_close(terms, plain)
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_a_cached_gradient_draws_each_chunks_hidden_units_twice_alike() -> None:
    model, batch, same = example(encoder(dropout=0.5, **with_terms(EVERY_TERM)))
    step = Step(model, CPU, "auto")
    cached(step, batch, same, 4, torch.manual_seed)
    found = gradients(model)
    model.zero_grad(set_to_none=True)
    # By hand: one graph over the three chunks, each with its seed.
    parts = []
    for start in (0, 4, 8):
        torch.manual_seed(start)
        parts.append(model({m: (x[start : start + 4], mask[start : start + 4]) for m, (x, mask) in batch.items()}))
    pairs = {
        term: type(part)(*(torch.cat(side) for side in zip(*(p[term] for p in parts), strict=True)))
        for term, part in parts[0].items()
    }
    model.loss(pairs, same)["loss"].backward()
    torch.testing.assert_close(found, gradients(model), atol=1e-6, rtol=1e-4)


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "limit", "fits"), [(64, 20, 16), (64, 64, 64), (100, 30, 25), (8, 0, None)])
def test_what_fits_is_found_by_halving(first: int, limit: int, fits: int | None) -> None:
    tried = []

    def attempt(size: int) -> None:
        tried.append(size)
        if size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert largest_that_fits(attempt, first) == fits
    assert tried == [first // 2**n for n in range(len(tried))]


def short_of_memory(model: TrimodalModel, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = type(model).forward

    def limited(self: TrimodalModel, batch: Any) -> Any:
        if len(batch["music"][1]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return forward(self, batch)

    monkeypatch.setattr(type(model), "forward", limited)


@pytest.mark.parametrize(
    ("limit", "said"),
    [(2, "set training.chunk to 2"), (10, "set encoder.loss.stream_rows"), (0, "nor does a single clip")],
)
def test_advice_names_the_key(limit: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, _ = example(encoder())
    short_of_memory(model, limit, monkeypatch)
    text = advice(Step(model, CPU, "auto"), batch, 10)
    assert text.startswith("a step of 10 clips on cpu does not fit into its memory")
    assert said in text
    assert all(p.grad is None for p in model.parameters())


def test_too_little_memory_is_one_clear_error_and_its_advice_works(
    corpus: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_of_memory(example(encoder())[0], 5, monkeypatch)
    with pytest.raises(ValueError, match=r"a step of 16 clips .* set training\.chunk to 4, or lower training\.batch"):
        run(*corpus, tmp_path, encoder())
    assert run(*corpus, tmp_path, encoder(), chunk=4).summary["last_step"] == 8


# -- resume ------------------------------------------------------------------------------------------


def run_half(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **changes: Any) -> None:
    """Run until step 4 is checkpointed and step 5 would begin."""
    calls: list[None] = []

    def stop(self: World) -> None:
        calls.append(None)
        if len(calls) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(World, "check_launcher", stop)
        run(*arguments, **changes)


@pytest.mark.parametrize("chunk", [5, 8])
def test_a_chunked_run_resumes_to_the_same_bits_and_another_chunk_is_said(
    corpus: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, chunk: int,
) -> None:  # fmt: skip
    shape = encoder(**with_terms(EVERY_TERM))
    run_half(monkeypatch, *corpus, tmp_path, shape, chunk=5)
    with caplog.at_level(logging.INFO):
        resumed = run(*corpus, tmp_path, shape, chunk=chunk)
    assert "resuming after step 4" in caplog.text
    if chunk == 5:
        undisturbed = run(*corpus, tmp_path / "whole", shape, chunk=5)
        assert resumed.summary == undisturbed.summary
        assert resumed.history == undisturbed.history
    else:
        assert "going on with 1 processes and chunk 8, before it was 1 and 5" in caplog.text
        assert [(cut["from_step"], cut["chunk"]) for cut in resumed.summary["cut"]] == [(0, 5), (4, 8)]


# -- processes -----------------------------------------------------------------------------------------

SMOOTH_SHAPE, ROUGH_SHAPE = encoder(**SMOOTH, **with_terms(EVERY_TERM)), encoder(**with_terms(EVERY_TERM))
# Name, shape, changes for two processes, changes for one process that must give the same.
CASES: list[tuple[str, EncoderSection, dict[str, Any], dict[str, Any]]] = [
    ("plain", SMOOTH_SHAPE, {}, {}),
    ("unused weights", encoder(**SMOOTH, **with_terms({**EVERY_TERM, "fused-music": 0.0}), pooling="attention",
                               fusion={"kind": "concat-transformer", "layers": 1}), {}, {}),
    ("hidden units drawn by place", ROUGH_SHAPE, {}, {"chunk": 8}),
    ("chunked", ROUGH_SHAPE, {"chunk": 4}, {"chunk": 4}),
    ("near duplicates", encoder(**SMOOTH, **with_terms(EVERY_TERM, mask={
        "same_track": True, "same_artist": True, "near_duplicates": 0.5})), {"chunk": 4}, {}),
    ("linear paths", encoder(**SMOOTH, **with_terms(EVERY_TERM), linear={"kind": "cca", "directions": 4, "share": 0.7}), {}, {}),
]  # fmt: skip


def as_torchrun(rank: int, port: int) -> dict[str, str]:
    """The environment that torchrun would give to one of two processes."""
    return os.environ | {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "RANK": str(rank), "LOCAL_RANK": str(rank), "TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip


def worker(root: Path, out: Path) -> None:
    """One of two processes: every case, a resumed run, and one that a single process has begun."""
    rank, manifest = int(os.environ["RANK"]), json.loads((out / "manifest.json").read_text())

    def keep(name: str, trained: Trained) -> None:
        if rank == 0:
            save_file(trained.model.state_dict(), out / f"{name}.safetensors")
            write_json(out / f"{name}.json", {"summary": trained.summary, "history": trained.history})

    for name, shape, changes, _ in CASES:
        keep(name, run(root, manifest, out / name, shape, **changes))
    with pytest.MonkeyPatch.context() as patch:
        run_half(patch, root, manifest, out / "resumed", SMOOTH_SHAPE)
    keep("resumed", run(root, manifest, out / "resumed", SMOOTH_SHAPE))
    last = run(root, manifest, out / "begun by one", SMOOTH_SHAPE)
    keep("begun by one", last)
    last.world.leave()


@pytest.fixture(scope="module")
def of_two(corpus: tuple[Path, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, summaries and histories of runs of two processes over gloo."""
    out = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        run_half(patch, *corpus, out / "begun by one", SMOOTH_SHAPE)
    (out / "manifest.json").write_text(json.dumps(corpus[1]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Fresh processes: a fork would inherit what the tests before have set up, such as accelerate's state.
    both = [
        subprocess.Popen(
            [sys.executable, __file__, str(corpus[0]), str(out)], env=as_torchrun(rank, port), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=120)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], "\n".join(said)
    return out


def same_weights(of_two: Path, name: str, trained: Trained) -> None:
    found = load_file(of_two / f"{name}.safetensors")
    torch.testing.assert_close(found, dict(trained.model.state_dict()), atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize(("name", "shape", "alone"), [(name, shape, alone) for name, shape, _, alone in CASES])
def test_two_processes_train_as_one_does(
    corpus: tuple[Path, Manifest], of_two: Path, tmp_path: Path, name: str, shape: EncoderSection, alone: dict[str, Any]
) -> None:
    trained = run(*corpus, tmp_path, shape, **alone)
    same_weights(of_two, name, trained)
    history = json.loads((of_two / f"{name}.json").read_text())["history"]
    assert [(row["step"], row["name"]) for row in history] == [(row["step"], row["name"]) for row in trained.history]
    values = [torch.tensor([row["value"] for row in rows]) for rows in (history, trained.history)]
    torch.testing.assert_close(*values, atol=1e-4, rtol=1e-4)


def test_two_processes_resume_to_the_same_bits(of_two: Path) -> None:
    for kind in ("json", "safetensors"):
        assert (of_two / f"resumed.{kind}").read_bytes() == (of_two / f"plain.{kind}").read_bytes()


def test_a_run_goes_on_with_another_number_of_processes(
    corpus: tuple[Path, Manifest], of_two: Path, tmp_path: Path
) -> None:
    same_weights(of_two, "begun by one", run(*corpus, tmp_path, SMOOTH_SHAPE))
    cut = json.loads((of_two / "begun by one.json").read_text())["summary"]["cut"]
    assert [(part["from_step"], part["processes"]) for part in cut] == [(0, 1), (4, 2)]


if __name__ == "__main__":
    worker(Path(sys.argv[1]), Path(sys.argv[2]))
