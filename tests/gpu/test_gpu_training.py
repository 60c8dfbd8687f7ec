"""Training on a GPU: compiled, from features held there, with recorded kernels; as exact as on a processor."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from components import tables
from components.encoder.losses import Identities
from components.encoder.model import TrimodalModel
from components.encoder.params import EncoderSection
from components.modalities import MODALITIES
from components.training.batches import Batches, on_device, resident
from components.training.gradients import Step, cached, whole
from components.training.params import TrainingSection
from tests.encoder.objectives import ALL_TERMS, EVERYTHING_MASKED, HARD, INFONCE, SIGMOID
from tests.encoder.objectives import section as loss_section
from tests.training.corpus_look_alike import PARAMS, open_features
from tests.training.stage import MODULE, start, wait_for_a_checkpoint

LARGER: dict[str, Any] = {"batch": 256, "compile": "auto", "steps": 60}
LARGE_MODEL = {"width": 512, "feedforward": 2048, "heads": 8, "layers": 4}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", *MODULE)
# A share of the memory, 1.5 GB, stands for a small GPU.
SMALL_GPU = (
    "import runpy, torch; "
    "torch.cuda.set_per_process_memory_fraction(1.5e9 / torch.cuda.get_device_properties(0).total_memory); "
    "runpy.run_module('components.training', run_name='__main__', alter_sys=True)"
)
EXACT = {"dropout": 0.0, "input_dropout": 0.0, "input_noise": dict.fromkeys(MODALITIES, 0.0), "width": 32}


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Return exit code and what was said."""
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors.decode()


def test_a_killed_run_and_one_under_torchrun_end_in_the_same_bits(corpus: Path, tmp_path: Path) -> None:
    ways = {"undisturbed": MODULE, "killed": MODULE, "torchrun": TORCHRUN}
    for name in ways:
        (tmp_path / name).mkdir()

    def started(name: str) -> subprocess.Popen[bytes]:
        return start(corpus, tmp_path / name, tmp_path / name, how=ways[name], **LARGER)

    runs = {name: started(name) for name in ways}
    wait_for_a_checkpoint(runs["killed"], tmp_path / "killed")
    runs["killed"].send_signal(signal.SIGKILL)
    assert ended(runs["killed"])[0] == -signal.SIGKILL, "the run ended before it could be killed"
    runs["killed"] = started("killed")
    for name, run in runs.items():
        code, errors = ended(run)
        assert code == 0, (name, errors)
    found = {name: json.loads((tmp_path / name / "training/summary.json").read_text()) for name in ways}
    assert found["undisturbed"]["device"] == "cuda"
    assert found["killed"] == found["undisturbed"]
    assert found["torchrun"] == found["undisturbed"]


@pytest.mark.parametrize(
    ("model", "changes", "advice"),
    [
        (LARGE_MODEL, {"batch": 2048}, "the largest part that fits is 1024: set training.chunk to 1024, or lower"),
        ({}, {"batch": 16384, "chunk": 1024}, "forward passes of 1024 do, the scores of all pairs do not; set encoder.loss.stream_rows"),
    ],
    ids=["towers", "scores"],
)  # fmt: skip
def test_too_little_memory_is_told_with_what_fits(
    corpus: Path, tmp_path: Path, model: dict[str, Any], changes: dict[str, Any], advice: str
) -> None:
    code, errors = ended(start(corpus, tmp_path, tmp_path, model, ("-c", SMALL_GPU), **changes))
    assert (code, advice in errors) == (1, True), errors


def test_features_held_on_the_gpu_give_the_batch_that_those_on_disk_give(corpus: Path, gpu: torch.device) -> None:
    stores = open_features(corpus)
    section = TrainingSection.model_validate(PARAMS["training"])
    clips = stores.clips(tables.read_rows(corpus / "manifest.parquet", tables.MANIFEST), "train", 2)
    held = resident(stores, clips, gpu)
    assert held is not None
    ways = [Batches(stores, clips, section, 256, slice(0, 256), True, features) for features in (None, held)]
    (expected, _), (found, _) = (on_device(way.parcel(3), gpu) for way in ways)
    for modality in MODALITIES:
        assert found[modality][0].is_cuda
        assert torch.equal(found[modality][0], expected[modality][0])
        assert torch.equal(found[modality][1], expected[modality][1])


@pytest.mark.parametrize("kind", [INFONCE, HARD, SIGMOID], ids=["infonce", "hard negatives", "sigmoid"])
@pytest.mark.parametrize(("stream_rows", "chunk"), [(None, None), (None, 16), (7, None)])
def test_a_compiled_step_has_the_gradient_of_the_processor(
    gpu: torch.device, kind: dict[str, Any], stream_rows: int | None, chunk: int | None
) -> None:
    loss = loss_section(terms=ALL_TERMS, mask=EVERYTHING_MASKED, stream_rows=stream_rows, **kind)
    shape = EncoderSection.model_validate(PARAMS["encoder"] | EXACT | {"loss": loss.model_dump()})
    chance = torch.Generator().manual_seed(0)
    batch = {
        m: (torch.randn(48, 3, 6, generator=chance), torch.rand(48, 3, generator=chance) < 0.8) for m in MODALITIES
    }
    batch["text"][1][::5] = False
    same = Identities(torch.arange(48) // 2, torch.arange(48) // 3, torch.randn(48, 6, generator=chance))

    def gradients(device: torch.device) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = TrimodalModel(shape, dict.fromkeys(MODALITIES, 6)).train().to(device)
        step = Step(model, device, "float32")
        if device.type == "cuda":
            step.use_compiler(whole=chunk is None, alone=True)
        given = {m: (values.to(device), mask.to(device)) for m, (values, mask) in batch.items()}
        who = Identities(*(part.to(device) for part in same))
        for _ in range(4):  # a compiled step is recorded in its second and third run
            model.zero_grad(set_to_none=True)
            if chunk is None:
                whole(step, given, who, torch.manual_seed)
            else:
                cached(step, given, who, chunk, torch.manual_seed)
        return {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}

    found, expected = gradients(gpu), gradients(torch.device("cpu"))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
