"""The graph as DVC tells it: order, parents, and why a stage would run."""

import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.errors import USAGE, Refusal
from flows.workspace.graph import load_graph
from flows.workspace.workspace import Workspace, find_workspace

from .conftest import DIAMOND, Cli


def reproduce(workspace: Workspace) -> None:
    from dvc.repo import Repo

    with contextlib.chdir(workspace.root), Repo() as repo:
        repo.reproduce()


@pytest.fixture
def done(toy: Callable[[str], Workspace]) -> Workspace:
    workspace = toy(DIAMOND)
    reproduce(workspace)
    return workspace


def test_every_stage_comes_after_its_parents_and_ties_keep_the_order_of_the_file(toy) -> None:
    graph = load_graph(toy(DIAMOND).root)
    assert [stage.name for stage in graph.stages] == ["first", "branch@left", "branch@right", "last"]
    assert graph["last"].parents == ("branch@left", "branch@right")
    assert graph["branch@left"].parents == ("first",)
    assert graph["first"].description == "the first"
    assert graph["branch@right"].outputs == ("right.txt",)


def test_the_order_follows_the_edges_where_the_file_has_it_backwards(toy) -> None:
    backwards = (
        "stages:\n  z: {cmd: cp a.txt z.txt, deps: [a.txt], outs: [z.txt]}\n  a: {cmd: echo > a.txt, outs: [a.txt]}\n"
    )
    assert [stage.name for stage in load_graph(toy(backwards).root).stages] == ["a", "z"]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("dvc.yaml", "choose between the two sides"),
        ("dvc.lock", "`git checkout --ours dvc.lock` or `--theirs` takes one side, then `needledrop retrain`"),
        (".dvc/config", "choose between the two sides"),
    ],
)
def test_a_file_that_git_left_in_conflict_is_named_with_line_and_step(
    done: Workspace, here: Cli, name: str, step: str
) -> None:
    path = done.root / name
    before = path.read_text()
    path.write_text(f"{before}<<<<<<< HEAD\n# ours\n=======\n# theirs\n>>>>>>> main\n")
    line = before.count("\n") + 1
    with pytest.raises(Refusal) as refusal:
        load_graph(done.root)
    said = f"{name}: line {line} is a conflict mark of git (<<<<<<< HEAD): {step}"
    assert str(refusal.value).startswith(said) and refusal.value.code == USAGE
    for words in (("retrain",), ("push",)):
        told = here(*words, cwd=done.root)
        assert (told.returncode, told.stderr.count("\n")) == (2, 1) and said in told.stderr


def test_either_side_of_a_conflict_in_the_lock_will_do(done: Workspace) -> None:
    """A lock that knows another input asks for the stage again, and for no more."""
    lock, source = done.root / "dvc.lock", done.root / "in.txt"
    ours = lock.read_text()
    source.write_text("another input\n")
    reproduce(done)
    lock.write_text(ours)  # `git checkout --ours`, and the input is theirs
    assert "in.txt changed" in load_graph(done.root)["first"].reasons
    reproduce(done)
    assert not load_graph(done.root).pending


def test_a_link_out_of_the_repository_is_refused_before_anything_runs(
    toy: Callable[[str], Workspace], tmp_path: Path
) -> None:
    workspace = toy("stages:\n  s:\n    cmd: echo x > data/out.txt\n    outs: [data/out.txt]\n")
    (tmp_path / "disk").mkdir()
    (workspace.root / "data").symlink_to(tmp_path / "disk")
    assert load_graph(workspace.root).pending, "without git DVC takes it"
    subprocess.run(["git", "init", "-q", str(workspace.root)], check=True)
    (workspace.root / ".dvc/config").write_text("")
    with pytest.raises(Refusal, match=f"data is a link to {tmp_path / 'disk'}, and DVC keeps nothing outside"):
        load_graph(workspace.root)
    (workspace.root / "data").unlink()
    (workspace.root / "data").mkdir()
    assert load_graph(workspace.root).pending


def test_arguments_are_the_named_words_of_the_command(toy) -> None:
    graph = load_graph(
        toy("stages:\n  s:\n    cmd: python -m x --in 'a b.txt' --flag --out o.txt\n    outs: [o.txt]\n").root
    )
    assert graph["s"].arguments == {"in": "a b.txt", "out": "o.txt"}
    assert graph["s"].argument("in") == Path("a b.txt")
    with pytest.raises(Refusal, match="'s' has no --model"):
        graph["s"].argument("model")


def test_a_new_project_has_never_run(toy) -> None:
    graph = load_graph(toy(DIAMOND).root)
    assert {stage.reasons for stage in graph.stages} == {("has never run",)}
    assert list(graph.pending) == ["first", "branch@left", "branch@right", "last"]


def test_nothing_is_pending_after_a_run(done: Workspace) -> None:
    assert load_graph(done.root).pending == {}


def test_a_changed_file_is_named_and_what_reads_from_it_waits(done: Workspace) -> None:
    (done.root / "in.txt").write_text("other\n")
    graph = load_graph(done.root)
    assert graph.pending["first"] == ("in.txt changed",)
    assert graph.pending["branch@left"] == ("after first",)
    assert graph["branch@left"].reasons == ()


def test_a_changed_key_is_named_with_both_values(done: Workspace) -> None:
    params = done.root / "params.yaml"
    params.write_text(params.read_text().replace("steps: ", "steps: 1", 1))
    (reason,) = load_graph(done.root)["branch@left"].reasons
    before, after = reason.removeprefix("training.steps: ").split(" -> ")
    assert after == f"1{before}"
    assert "first" not in load_graph(done.root).pending


def test_missing_and_edited_outputs_are_told_apart(done: Workspace) -> None:
    (done.root / "left.txt").unlink()
    right = done.root / "right.txt"
    right.unlink()
    right.write_text("edited by hand")
    pending = load_graph(done.root).pending
    assert pending["branch@left"] == ("output left.txt is missing",)
    assert pending["branch@right"] == ("output right.txt was changed after the stage wrote it",)
    assert pending["last"] == ("after branch@left, branch@right",)


def test_a_changed_command_is_a_reason(done: Workspace) -> None:
    (done.root / "dvc.yaml").write_text(DIAMOND.replace("making first", "doing first"))
    assert load_graph(done.root).pending["first"] == ("its command changed in dvc.yaml",)


def test_a_dependency_that_nobody_makes_is_named(toy) -> None:
    workspace = toy(DIAMOND)
    reproduce(workspace)
    (workspace.root / "in.txt").unlink()
    assert load_graph(workspace.root).pending["first"] == ("in.txt is missing",)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("stages: [", "dvc.yaml"),
        ("stages:\n  s: {cmd: 'echo ${no.such}'}\n", "no.such"),
        (
            "stages:\n  a: {cmd: x, deps: [b.txt], outs: [a.txt]}\n  b: {cmd: x, deps: [a.txt], outs: [b.txt]}\n",
            "both a dependency",
        ),
    ],
)
def test_a_file_that_dvc_refuses_is_one_line(toy, text: str, word: str) -> None:
    with pytest.raises(Refusal, match=word) as refusal:
        load_graph(toy(text).root)
    assert "\n" not in str(refusal.value)


def test_the_workspace_is_found_from_a_folder_inside_it(toy, tmp_path: Path) -> None:
    workspace = toy(DIAMOND)
    inner = workspace.root / "some" / "folder"
    inner.mkdir(parents=True)
    assert find_workspace(inner) == workspace
    with pytest.raises(Refusal, match=r"no dvc\.yaml"):
        find_workspace(tmp_path)
