"""What orchestration costs when nothing changed: `needledrop retrain` against plain `dvc repro`.

Prediction: a retrain with nothing to do is one question to DVC, one question to MLflow and Prefect's
own start. Limit: twice a `dvc repro` with nothing to do, plus the start of an empty Prefect flow.

Run `make retrain` once before, then `make bench`. The three commands run in turn, so a machine whose
speed drifts slows all of them alike.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 3
LIMIT = 2.0

EMPTY_FLOW = """
from flows.environment import prepare
from flows.workspace.workspace import find_workspace
prepare(find_workspace())
from prefect import flow

@flow
def empty() -> None:
    pass

empty()
"""


def seconds(command: list[str]) -> float:
    """Wall time of one command, which must succeed."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command[:2])} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - started


def environment() -> dict[str, str]:
    """The environment with this interpreter's commands first on the path."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def main() -> None:
    """Measure and print the three times and the ratio."""
    if not Path("dvc.lock").exists():
        sys.exit("error: nothing has been run here yet; run `make retrain` first")
    commands = {
        "dvc repro, nothing to do": ["dvc", "repro"],
        "an empty Prefect flow": [sys.executable, "-c", EMPTY_FLOW],
        "needledrop retrain, nothing to do": ["needledrop", "retrain"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        seconds(command)  # warm the page cache and bring everything up to date
    for _ in range(ROUNDS):
        for name, command in commands.items():
            times[name].append(seconds(command))
    repro, prefect, retrain = (statistics.median(times[name]) for name in commands)
    for name, all_times in times.items():
        print(f"{name:36} {statistics.median(all_times):6.2f} s   ({min(all_times):.2f} to {max(all_times):.2f})")
    ratio = (retrain - prefect) / repro
    print(f"(retrain - Prefect's start) / dvc repro = {ratio:.2f}   limit {LIMIT}")
    sys.exit(0 if ratio <= LIMIT else 1)


if __name__ == "__main__":
    main()
