"""Two processes that share a batch learn exactly what one process learns from the whole of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.encoder.objectives import CASES, SAMPLES, gradients

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.encoder.objectives", str(rank), str(folder)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        ends = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, ends, strict=True):
        assert process.returncode == 0, errors
    return folder


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rank", [0, 1])
def test_averaged_gradient_of_two_processes_is_that_of_one(two_processes: Path, name: str, rank: int) -> None:
    expected = gradients(CASES[name][0], slice(0, SAMPLES))  # by one process, cut to who is there
    found = load_file(two_processes / f"{list(CASES).index(name)}-{rank}.safetensors")
    assert set(found) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")
    assert expected["fused-music query"].abs().max() > 0.01, "the gradient is something to compare"
    assert not expected["video-text query"].any(), "nobody was there"
