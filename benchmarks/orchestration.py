"""What orchestration costs when nothing changed: `needledrop retrain` against `dvc status`.

Prediction: a retrain with nothing to do asks DVC for the state of the stages, as `dvc status` does, and the
ledger for the version; neither Prefect nor MLflow is started. Goal: at most twice the time of `dvc status`.

Run `make retrain` once before, then `make bench`. The commands run in turn, so a machine whose speed drifts
slows all of them alike; the ratio is the median of the rounds' ratios.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 7
GOAL = 2.0


def seconds(command: list[str]) -> float:
    """Wall time of one command, which must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": path}, check=False)
    spent = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return spent


def main() -> None:
    """Measure and print the times and the ratio."""
    if not Path("dvc.lock").exists():
        sys.exit("error: nothing has been run here yet; run `make retrain` first")
    commands = (["dvc", "status"], ["needledrop", "plan"], ["needledrop", "retrain"])
    for command in commands:
        seconds(command)  # warms the page cache, and brings everything up to date
    rounds = [[seconds(command) for command in commands] for _ in range(ROUNDS)]
    for command, times in zip(commands, zip(*rounds, strict=True), strict=True):
        print(f"{' '.join(command):20} {statistics.median(times):6.2f} s   ({min(times):.2f} to {max(times):.2f})")
    ratio = statistics.median(retrain / status for status, _, retrain in rounds)
    print(
        f"needledrop retrain / dvc status = {ratio:.2f}   goal {GOAL}: {'reached' if ratio <= GOAL else 'NOT REACHED'}"
    )
    sys.exit(0 if ratio <= GOAL else 1)


if __name__ == "__main__":
    main()
