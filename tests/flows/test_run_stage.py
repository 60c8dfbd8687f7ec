"""One stage through DVC: what is shown, what is kept, and how it is told what happened."""

from collections.abc import Callable

import pytest

from flows.workspace.graph import load_graph
from flows.workspace.inputs import Inputs
from flows.workspace.processes import Processes
from flows.workspace.run_stage import StageEdited, StageFailed, StageResult, run_stage
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


def run(workspace: Workspace, stage: str, inputs: Inputs | None = None) -> tuple[StageResult, list[str]]:
    record, shown = Run(workspace), []
    result = run_stage(stage, workspace.root, record, Processes(record.id), lambda _, line: shown.append(line), inputs)
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


EDITS = """
stages:
  one:
    cmd: cp in.txt one.txt; [ ! -e edit ] || . ./edit
    deps: [in.txt]
    params: [training.steps]
    outs: [one.txt]
"""


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ("echo other > in.txt", "in.txt changed"),
        ("sed -i 's/  steps: 250/  steps: 999/' params.yaml", "training.steps: 250 -> 999"),
    ],
)
def test_an_edit_belongs_to_the_next_run(toy: Callable[[str], Workspace], edit: str, words: str) -> None:
    workspace = toy(EDITS)
    begun = load_graph(workspace.root)["one"].inputs
    (workspace.root / "edit").write_text(edit)
    with pytest.raises(StageEdited, match=f"stage 'one': {words} since this run began"):
        run(workspace, "one", begun)
    assert not (workspace.root / "dvc.lock").exists() and not list(workspace.root.glob(".dvc/cache/runs/*"))

    (workspace.root / "edit").unlink()
    with pytest.raises(StageEdited, match=words):  # it was edited before it could start
        run(workspace, "one", begun)
    assert run(workspace, "one", load_graph(workspace.root)["one"].inputs)[0].outcome == "ran"
    assert load_graph(workspace.root).pending == {}


def test_another_entry_in_dvc_yaml_is_an_edit(toy: Callable[[str], Workspace]) -> None:
    workspace = toy(ONE)
    begun = load_graph(workspace.root)["one"].inputs
    (workspace.root / "dvc.yaml").write_text(ONE.replace("one is made", "another"))
    with pytest.raises(StageEdited, match=r"its entry in dvc\.yaml changed since this run began"):
        run(workspace, "one", begun)


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
