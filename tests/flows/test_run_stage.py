"""One stage through DVC: what is shown, what is kept, and how it is told what happened."""

from collections.abc import Callable

import pytest

from flows.workspace.processes import Processes
from flows.workspace.run_stage import StageFailed, StageResult, run_stage
from flows.workspace.runs import Run, read_runs
from flows.workspace.workspace import Workspace

ONE = """
stages:
  one:
    cmd: echo one is made; cp in.txt one.txt
    deps: [in.txt]
    outs: [one.txt]
"""
FAILS = r"""
stages:
  bad:
    cmd: "echo reading; echo '50%|##'; echo 'error: list.csv line 3 is not UTF-8' >&2; exit 3"
    outs: [bad.txt]
"""


def run(workspace: Workspace, stage: str) -> tuple[StageResult, list[str]]:
    record, shown = Run(workspace), []
    result = run_stage(stage, workspace.root, record, Processes(record.id), lambda _, line: shown.append(line))
    return result, shown


def test_ran_skipped_and_restored_are_told_apart(toy: Callable[[str], Workspace]) -> None:
    workspace = toy(ONE)
    result, shown = run(workspace, "one")
    assert (result.outcome, result.report, shown) == ("ran", "one is made", ["one is made"])
    assert result.log is not None
    log = (workspace.root / result.log).read_text()
    assert "Running stage 'one'" in log and "one is made" in log, "the log has DVC's words too"

    result, shown = run(workspace, "one")
    assert (result.outcome, result.report, shown) == ("skipped", "", [])

    (workspace.root / "in.txt").write_text("other\n")
    assert run(workspace, "one")[0].outcome == "ran"
    (workspace.root / "in.txt").write_text("input\n")
    result, shown = run(workspace, "one")
    assert (result.outcome, shown) == ("restored", [])
    assert (workspace.root / "one.txt").read_text() == "input\n"


MIMIC = """
stages:
  mimic:
    cmd: echo "Stage 'mimic' is cached - skipping run"; echo "Updating lock file"; echo 3 rows; echo done > out.txt
    outs: [out.txt]
"""


def test_what_a_stage_says_does_not_decide_what_became_of_it(toy: Callable[[str], Workspace]) -> None:
    result, shown = run(toy(MIMIC), "mimic")
    assert (result.outcome, result.report) == ("ran", "3 rows")
    assert shown == ["Stage 'mimic' is cached - skipping run", "Updating lock file", "3 rows"], (
        "no line of its is hidden"
    )


def test_what_dvc_cannot_do_is_told_in_its_words(toy: Callable[[str], Workspace]) -> None:
    workspace = toy(ONE)
    (workspace.root / "in.txt").unlink()
    with pytest.raises(StageFailed, match=r"stage 'one' failed(.|\n)*in\.txt"):
        run(workspace, "one")


def test_a_failure_shows_the_last_lines_and_where_the_log_is(toy: Callable[[str], Workspace]) -> None:
    workspace = toy(FAILS)
    with pytest.raises(StageFailed) as failure:
        run(workspace, "bad")
    words = str(failure.value)
    assert "stage 'bad' failed" in words and "error: list.csv line 3 is not UTF-8" in words
    assert "50%|" not in words, "a progress bar is not a message"
    (record,) = read_runs(workspace)
    assert record["stages"][0]["outcome"] == "failed"
    assert record["stages"][0]["log"] in words
