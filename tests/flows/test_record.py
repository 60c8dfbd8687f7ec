"""What a run says of the code it was made with."""

import subprocess
from pathlib import Path

from flows.workspace.provenance import git_state


def test_the_lock_file_of_the_run_itself_does_not_make_the_code_dirty(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "params.yaml").write_text("a: 1\n")
    git("add", "-A")
    git("commit", "-qm", "first")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    assert git_state(tmp_path) == (git("rev-parse", "HEAD"), "false")
    (tmp_path / "params.yaml").write_text("a: 2\n")
    assert git_state(tmp_path) == (git("rev-parse", "HEAD"), "true")


def test_outside_git_the_commit_is_none(tmp_path: Path) -> None:
    assert git_state(tmp_path) == ("none", "unknown")
