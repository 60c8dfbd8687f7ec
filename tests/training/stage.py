"""Start the training stage as a user does: a process of its own, with a params.yaml in its folder."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from components.training.checkpoint import FILE
from tests.training.corpus_look_alike import PARAMS

ROOT = Path(__file__).parents[2]
MODULE = ("-m", "components.training")


def start(
    root: Path,
    out: Path,
    cwd: Path,
    encoder: dict[str, Any] | None = None,
    how: Sequence[str] = MODULE,
    code: Path = ROOT,
    **changes: Any,
) -> subprocess.Popen[bytes]:
    """Start the stage of ``code`` in ``cwd``, with changes to the sections encoder and training."""
    paths = {
        "manifest": root / "manifest.parquet", "video": root / "features/video", "music": root / "features/music",
        "text": root / "features/text", "annotations": root / "features/annotations", "model": out / "model",
        "history": out / "training/history.parquet", "summary": out / "training/summary.json",
        "checkpoints": out / "checkpoints", "journal": out / "journal.jsonl",
    }  # fmt: skip
    sections = {"encoder": PARAMS["encoder"] | (encoder or {}), "training": PARAMS["training"] | changes}
    (cwd / "params.yaml").write_text(yaml.safe_dump(PARAMS | sections))
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    words = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    return subprocess.Popen(
        [sys.executable, *how, *words], cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_a_checkpoint(process: subprocess.Popen[bytes], out: Path) -> None:
    """Return when there is one, or the process has ended."""
    while process.poll() is None and not (out / "checkpoints" / FILE).is_file():
        time.sleep(0.005)
