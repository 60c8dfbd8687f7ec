"""The switches of a repeatable run, and what they must not cost."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from components.encoder.device import compile_model, deterministic_device

SETTLED = """
import sys
import torch
from components import device
from components.encoder.device import deterministic_device
for settled, warns in ((lambda: device.choose_device("cpu", 1, "key"), True), (lambda: deterministic_device(1), False)):
    settled()
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled() is warns
print("torch._dynamo" in sys.modules)
"""


def test_deterministic_kernels_do_not_import_the_compiler() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", SETTLED], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_the_compiler_is_told_of_them() -> None:
    import torch._inductor.config as inductor

    deterministic_device(torch.get_num_threads())
    inductor.deterministic = False
    compile_model(nn.Linear(1, 1))
    assert inductor.deterministic is True
