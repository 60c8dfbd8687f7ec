"""No library tells anyone that it is used: shown in a process that can reach this machine only and notes who it calls."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TELEMETRY = ("DO_NOT_TRACK", "DVC_NO_ANALYTICS", "GX_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY",
             "MLFLOW_DISABLE_TELEMETRY", "PREFECT_SERVER_ANALYTICS_ENABLED")  # fmt: skip
SCRIPT = Path(__file__).with_name("telemetry.py")


def called(environment: dict[str, str], folder: Path, *libraries: str) -> list[str]:
    """Who was called by a user's process that uses the libraries; a user has set none of their switches."""
    clean = {name: value for name, value in environment.items() if name not in TELEMETRY}
    done = subprocess.run([sys.executable, str(SCRIPT), str(folder), *libraries], env=clean, cwd=folder,
                          capture_output=True, text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_call_is_noticed(clean_environment: dict[str, str], tmp_path: Path) -> None:
    assert called(clean_environment, tmp_path, "control") == ["look up 'example.com'", "connect 192.0.2.1"]


@pytest.mark.stack  # seconds each, only to be imported
def test_no_library_of_a_retrain_calls_home(clean_environment: dict[str, str], tmp_path: Path) -> None:
    assert called(clean_environment, tmp_path, "mlflow", "prefect", "dvc") == []


@pytest.mark.stack  # seconds each, only to be imported
@pytest.mark.parametrize("library", ["great_expectations", "evidently", "transformers"])
def test_no_library_of_a_stage_calls_home(clean_environment: dict[str, str], tmp_path: Path, library: str) -> None:
    assert called(clean_environment, tmp_path, library) == []
