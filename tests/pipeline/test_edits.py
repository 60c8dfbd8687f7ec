"""Edits at random moments of a retrain: what dvc.lock, MLflow, the ledger and the gate's report say is what ran.

`NEEDLEDROP_EDITS` says how many runs, `NEEDLEDROP_EDITS_SEED` which edits and moments. What ran is told by witnesses that
no record has a part in: the steps that were trained, and a mark that the edited code leaves in its own output.
"""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.gate.settings import SHIPPED

from .conftest import Project

pytestmark = [pytest.mark.stack, pytest.mark.timeout(5400)]

EDITS = int(os.environ.get("NEEDLEDROP_EDITS", "3"))
SEED = int(os.environ.get("NEEDLEDROP_EDITS_SEED", "7"))
CODE = "components/training/run.py"
LINE = '        "seed": section.seed,'
SAID = ("since this run began", "was edited while")
BEGUN = re.compile(r"^run \S+: \d+ stages", re.MULTILINE)


@dataclass(frozen=True)
class State:
    """What can be edited, as it is at one moment: steps of training, the mark in its code, the gate's resamples."""

    params: dict[str, Any]
    mark: int
    resamples: int
    code: str
    """Digest of what a version brings."""


def read(project: Project) -> State:
    from flows.registration.code import code_of
    from flows.workspace.workspace import Workspace

    params = yaml.safe_load((project.root / "params.yaml").read_text())
    mark = int(re.findall(r'"mark": (\d+)', (project.root / CODE).read_text())[0])
    resamples = yaml.safe_load((project.root / "gate.yaml").read_text())["gate"]["resamples"]
    return State(params, mark, resamples, code_of(Workspace(project.root)))


def edit(project: Project, what: str, number: int) -> None:
    """Edit a file as editors do: a new one takes its place."""
    name, old, new = {
        "params.yaml": ("params.yaml", r"(?m)^  steps: \d+$", f"  steps: {30 + number}"),
        "code": (CODE, r'"mark": \d+', f'"mark": {number}'),
        "gate.yaml": ("gate.yaml", r"resamples: [0-9_]+", f"resamples: {1000 + number}"),
    }[what]
    text = (project.root / name).read_text()
    made, count = re.subn(old, new, text)
    assert count == 1
    part = project.root / ".needledrop" / "edit.part"
    part.write_text(made)
    part.replace(project.root / name)


def test_what_is_recorded_is_what_ran(make_project: Callable[[str], Project]) -> None:
    project, draw = make_project("edited"), random.Random(SEED)
    code = project.root / CODE
    code.write_text(code.read_text().replace(LINE, f'{LINE} "mark": 0,', 1))
    (project.root / "gate.yaml").write_text(SHIPPED.read_text())
    project.params(training={"patience": 100})
    began = time.monotonic()
    project.retrain()
    whole_s = time.monotonic() - began
    known, wrong = versions(project), list[str]()
    print(f"\n{EDITS} edits, seed {SEED}; undisturbed and from nothing {whole_s:.0f} s")
    print(f"{'':>3}  {'edited':<12} {'s after start':>13}  {'while':<24} what became of it", flush=True)
    length_s = whole_s / 2
    for number in range(1, EDITS + 1):
        what = draw.choice(("params.yaml", "code", "gate.yaml"))
        project.params(training={"seed": 100 + number})
        if draw.random() < 0.3:  # a longer run
            project.params(captioning={"seed": 100 + number})
        before, moment = read(project), draw.uniform(0, 0.95 * length_s)
        done = disturbed(project, lambda what=what, number=number: edit(project, what, number), moment)
        after = read(project)
        ran = [before] if done.held else [before, after]
        now = versions(project)
        found = (
            [] if any(holds(project, one, done, now - known) for one in ran) else ["what is recorded is not what ran"]
        )
        if done.code not in (4, 1) or (done.code == 1 and not any(words in done.output for words in SAID)):
            found.append(f"exit code {done.code} without a word: {done.output[-300:]}")
        found += untrue(project, after)
        became = f"version {max(now - known)}" if now - known else "not registered, and said so"
        print(f"{number:>3}  {what:<12} {moment:>13.1f}  {done.during:<24} {'; '.join(found) or became}", flush=True)
        wrong += found
        known, length_s = now, max(10.0, 0.9 * length_s if done.ended_before else done.seconds)
    last = project.retrain()
    assert holds(project, read(project), Done(4, last.stdout, True, "", 0.0, False), versions(project) - known)
    print(f"{EDITS - len(wrong)} of {EDITS}: what is recorded is what ran")
    assert wrong == []


@dataclass(frozen=True)
class Done:
    """A run that was disturbed.

    Attributes:
        code: its exit code.
        output: what it said.
        held: the edit came after it had said what it would run.
        during: the stage or the step that went on then.
        seconds: its length.
        ended_before: it ended before the edit.
    """

    code: int
    output: str
    held: bool
    during: str
    seconds: float
    ended_before: bool


def disturbed(project: Project, change: Callable[[], None], moment_s: float) -> Done:
    log = project.root / ".needledrop" / "edited.txt"
    began = time.monotonic()
    with log.open("w") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "retrain"], cwd=project.root, env=project.environment, stdout=handle,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    while process.poll() is None and time.monotonic() < began + moment_s:
        time.sleep(0.02)
    ended = process.poll() is not None
    said = log.read_text()
    change()
    code = process.wait(600)
    lines = [line for line in said.splitlines() if line.strip()]
    during = "after its end" if ended else (lines[-1].split("|")[0].strip()[:24] if lines else "start")
    return Done(code, log.read_text(), bool(BEGUN.search(said)), during, time.monotonic() - began, ended)


def versions(project: Project) -> set[int]:
    from flows.release.mirror import standing

    return {release.version for release in standing(platform(project)).releases}


def platform(project: Project) -> Any:
    from flows.workspace.platform import Platform
    from flows.workspace.workspace import Workspace

    return Platform.at(Workspace(project.root))


def holds(project: Project, ran: State, done: Done, new: set[int]) -> bool:
    """Tell whether a run that had `ran` before it has recorded nothing else."""
    lock = project.lock()["stages"]
    for name in re.findall(r"(?m)^(\S+) +ran +\d", done.output):
        noted = lock[name]["params"]["params.yaml"]
        if noted != {section: ran.params[section] for section in noted}:
            return False
    if re.search(r"(?m)^training +ran +\d", done.output) and witness(project) != (
        ran.params["training"]["steps"],
        ran.mark,
    ):
        return False
    return all(is_of(project, version, ran) for version in new)


def is_of(project: Project, version: int, ran: State) -> bool:
    """Tell whether all that is kept of a version is of `ran`."""
    from flows.registry.tracking import connect
    from flows.release.mirror import standing
    from flows.release.unit import fetch

    at = platform(project)
    release = next(one for one in standing(at).releases if one.version == version)
    folder = Path(connect(at).get_run(release.run_id).info.artifact_uri.removeprefix("file://"))
    logged = yaml.safe_load((folder / "params.yaml").read_text())
    lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]["training"]["params"]["params.yaml"]
    stored = fetch(connect(at), version, folder) / "code" / CODE
    report = max((project.root / ".needledrop/reports").glob(f"gate-{version}/report.json"), default=None)
    same = [
        logged == ran.params,
        lock["training"] == ran.params["training"],
        witness(project) == (ran.params["training"]["steps"], ran.mark),
        release.code == ran.code,
        f'"mark": {ran.mark},' in stored.read_text(),
        report is None or json.loads(report.read_text())["settings"]["resamples"] == ran.resamples,
    ]
    return all(same)


def witness(project: Project) -> tuple[int, int]:
    """Steps that were trained, and the mark of the code that trained."""
    summary = json.loads((project.root / "data/training/summary.json").read_text())
    return summary["last_step"], summary["mark"]


def untrue(project: Project, now: State) -> list[str]:
    """Say where a stage counts as up to date and its result is of something else."""
    plan = json.loads(project.run(sys.executable, "-m", "flows.cli", "plan", "--json").stdout)
    runs = {stage["name"]: stage["runs"] for stage in plan["stages"]}
    if not runs["training"] and witness(project) != (now.params["training"]["steps"], now.mark):
        return ["`plan` says that training is up to date, and it is not"]
    return []
