"""git is asked of the repository that is meant, whatever the environment holds, and may be missing."""

import subprocess
from pathlib import Path

import pytest

from flows.workspace.git import git
from flows.workspace.provenance import commit_problem, git_state


def repository(folder: Path, text: str) -> str:
    """Make a repository with one commit; return the commit."""
    folder.mkdir()
    (folder / "file.txt").write_text(text)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    words = ["git", "-C", str(folder), "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run([*words, "add", "-A"], check=True)
    subprocess.run([*words, "commit", "-qm", "first"], check=True)
    return subprocess.run([*words, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("left", [("GIT_DIR",), ("GIT_DIR", "GIT_WORK_TREE"), ("GIT_INDEX_FILE",)])
def test_another_repositorys_variables_are_not_followed(
    left: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = repository(tmp_path / "own", "own"), repository(tmp_path / "other", "other")
    assert own != other
    places = {"GIT_DIR": ".git", "GIT_WORK_TREE": "", "GIT_INDEX_FILE": ".git/index"}
    for name in left:
        monkeypatch.setenv(name, str(tmp_path / "other" / places[name]))
    assert git_state(tmp_path / "own") == (own, "false")
    (tmp_path / "own/file.txt").write_text("changed")
    assert git_state(tmp_path / "own") == (own, "true")


def test_the_lock_file_of_the_run_itself_does_not_make_the_code_dirty(tmp_path: Path) -> None:
    commit = repository(tmp_path / "own", "own")
    (tmp_path / "own/dvc.lock").write_text("schema: '2.0'\n")
    assert git_state(tmp_path / "own") == (commit, "false")
    (tmp_path / "own/params.yaml").write_text("a: 2\n")
    assert git_state(tmp_path / "own") == (commit, "true")


def test_without_git_nothing_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) == ("none", "unknown")
    assert (git("status").status, git("status").error) == (127, "git is not installed on this machine, or not on PATH")


def test_outside_a_repository_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == ("none", "unknown")
    assert "not a git repository" in git("rev-parse", "HEAD", at=tmp_path).error


def test_a_folder_of_another_user_is_said_with_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = repository(tmp_path / "own", "own")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own way to try it without another user
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    root = tmp_path / "own"
    assert git_state(root) == ("none", "unknown")
    step = f"git config --global --add safe.directory {root}"
    assert commit_problem(root) == f"git distrusts {root}, which belongs to another user: `{step}`"
    subprocess.run(step.split(), check=True)
    assert (git_state(root), commit_problem(root)) == ((commit, "false"), None)


def test_the_commit_of_a_repository_around_it_is_not_its_own(tmp_path: Path) -> None:
    repository(tmp_path / "home", "of somebody")
    root = tmp_path / "home" / "project"
    root.mkdir()
    (root / "dvc.yaml").write_text("stages: {}\n")
    assert git_state(root) == ("none", "unknown")
    assert "does not hold its dvc.yaml: commit the project" in str(commit_problem(root))
