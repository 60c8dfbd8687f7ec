"""Workspaces of deployed runs, made from a small real repository."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from components.captioning.completion import STOP, Completion, Request
from components.captioning.journal import Journal
from components.increments import update_store
from flows.deploy.checkout import carry_over, check_out, shared, take
from flows.environment import Environment
from flows.errors import Refusal
from flows.workspace.workspace import Workspace

ROOT = Path(__file__).parents[2]

TAKE = """
import sys, time
from pathlib import Path
from flows.deploy.checkout import take
print(take(Path(sys.argv[1]), "retrain").root.name, flush=True)
time.sleep(300)
"""


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository with two commits on main and another branch."""
    folder = tmp_path / "source"
    (folder / ".dvc").mkdir(parents=True)
    git(tmp_path, "init", "-q", str(folder))
    (folder / ".dvc" / "config").write_text("")
    (folder / ".dvc" / ".gitignore").write_text("/config.local\n")
    (folder / ".gitignore").write_text("/data/\n/.needledrop/\n")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    git(folder, "branch", "other")
    (folder / "new.txt").write_text("two\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "two")
    return folder


@pytest.fixture
def occupy(tmp_path: Path) -> Iterator[Callable[[], tuple["subprocess.Popen[str]", str]]]:
    """Let another process take a workspace; returns it and the name of what it got."""
    started = []

    def one() -> tuple["subprocess.Popen[str]", str]:
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE, str(tmp_path / "home")],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield one
    for process in started:
        process.kill()
        process.communicate()


def test_two_runs_never_share_a_workspace_and_a_killed_ones_is_taken_over(
    tmp_path: Path, occupy: Callable[[], tuple["subprocess.Popen[str]", str]]
) -> None:
    _, first = occupy()
    killed, second = occupy()
    assert (first, second) == ("retrain-1", "retrain-2")
    killed.kill()
    killed.wait()
    assert occupy()[1] == "retrain-2"
    assert take(tmp_path / "home", "retrain").root.name == "retrain-3"
    assert take(tmp_path / "home", "monitor").root.name == "monitor-1", "another line is not in its way"


def test_free_workspaces_beyond_those_that_stay_are_removed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for number in (1, 2, 3, 4):
        (home / f"retrain-{number}").mkdir(parents=True)
        (home / f"retrain-{number}.lock").touch()
        os.utime(home / f"retrain-{number}.lock", (number, number))
    assert take(home, "retrain").root.name == "retrain-4", "the one that was used last"
    assert sorted(path.name for path in home.iterdir() if path.is_dir()) == ["retrain-3", "retrain-4"]


def test_code_comes_to_the_commit_and_results_stay(source: Path, tmp_path: Path) -> None:
    workspace, cache = Workspace(tmp_path / "home" / "retrain-1"), tmp_path / "home" / "cache"
    workspace.root.parent.mkdir()
    commit = check_out(workspace, str(source), "main", cache)
    assert commit == git(source, "rev-parse", "main") == git(workspace.root, "rev-parse", "HEAD")
    dvc_directory = [sys.executable, "-m", "dvc", "cache", "dir"]
    assert subprocess.check_output(dvc_directory, cwd=workspace.root, text=True).strip() == str(cache)

    # What a killed run leaves: results, changed and new code, git's own lock.
    for name, content in (("data/rows", "rows"), ("dvc.lock", "lock"), ("dvc.yaml", "x"), ("stray.py", "")):
        (workspace.root / name).parent.mkdir(exist_ok=True)
        (workspace.root / name).write_text(content)
    (workspace.root / ".git" / "index.lock").touch()
    assert check_out(workspace, str(source), "other", cache) == git(source, "rev-parse", "other")
    assert (workspace.root / "data/rows").read_text() == "rows" and (workspace.root / "dvc.lock").read_text() == "lock"
    assert (workspace.root / "dvc.yaml").read_text() == "stages: {}\n"
    assert not (workspace.root / "stray.py").exists() and not (workspace.root / "new.txt").exists()


def test_a_new_commit_of_main_is_seen_and_an_old_one_can_be_named(source: Path, tmp_path: Path) -> None:
    workspace, cache = Workspace(tmp_path / "retrain-1"), tmp_path / "cache"
    old = check_out(workspace, str(source), "main", cache)
    git(source, "commit", "-q", "--allow-empty", "-m", "three")
    assert check_out(workspace, str(source), "main", cache) == git(source, "rev-parse", "main") != old
    assert check_out(workspace, str(source), old, cache) == old
    assert check_out(workspace, str(source), old[:10], cache) == old


def test_nothing_can_be_pushed_from_a_workspace(source: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "retrain-1")
    check_out(workspace, str(source), "main", tmp_path / "cache")
    git(workspace.root, "commit", "-q", "--allow-empty", "-m", "mine")
    with pytest.raises(subprocess.CalledProcessError):
        git(workspace.root, "push", "origin", "HEAD:main")
    assert git(source, "log", "-1", "--format=%s", "main") == "two"


@pytest.mark.parametrize("asked", ["no-such", "--upload-pack=touch x", "main..other", "../../etc"])
def test_what_is_no_commit_is_refused_and_the_code_stays(source: Path, tmp_path: Path, asked: str) -> None:
    workspace = Workspace(tmp_path / "retrain-1")
    before = check_out(workspace, str(source), "main", tmp_path / "cache")
    with pytest.raises(Refusal, match="no branch, tag or commit"):
        check_out(workspace, str(source), asked, tmp_path / "cache")
    assert git(workspace.root, "rev-parse", "HEAD") == before


def test_a_source_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="git clone: ") as refused:
        check_out(Workspace(tmp_path / "w"), "http://user:sesame@127.0.0.1:1/x.git", "main", tmp_path / "cache")
    assert "sesame" not in str(refused.value)


def test_a_new_workspace_starts_with_the_bytes_of_the_last_one(tmp_path: Path) -> None:
    done, new = tmp_path / "retrain-1", Workspace(tmp_path / "retrain-2")
    files = {"data/features/a.npy": b"\0" * 5000, "data/tags.parquet": b"tags", ".needledrop/registered.json": b"{}"}
    for name, content in (files | {"dvc.lock": b"lock"}).items():
        (done / name).parent.mkdir(parents=True, exist_ok=True)
        (done / name).write_bytes(content)
    new.root.mkdir()
    assert carry_over(done, new)
    assert {name: (new.root / name).read_bytes() for name in files} == files
    for name in files:
        assert (new.root / name).stat().st_mtime_ns == (done / name).stat().st_mtime_ns, "DVC need not read it again"

    # A stage replaces files: the finished run keeps its own.
    part = new.root / "data" / "part"
    part.write_bytes(b"new tags")
    part.replace(new.root / "data/tags.parquet")
    assert (done / "data/tags.parquet").read_bytes() == b"tags"
    assert carry_over(done, new), "once more, into one that has older rows"
    assert (new.root / "data/tags.parquet").read_bytes() == b"tags"


def test_a_carry_over_that_was_killed_begins_again(tmp_path: Path) -> None:
    done, new = tmp_path / "retrain-1", Workspace(tmp_path / "retrain-2")
    (done / "data").mkdir(parents=True)
    (done / "data" / "rows").write_text("rows")
    (done / "dvc.lock").write_text("lock")
    (new.root / "data").mkdir(parents=True)  # moved into place, but the lock was not yet
    dead = subprocess.Popen(["true"])
    dead.wait()
    (new.root / f".data.{dead.pid}.part").mkdir()
    assert carry_over(done, new)
    assert (new.root / "data" / "rows").read_text() == "rows"
    assert {path.name for path in new.root.iterdir()} == {"data", "dvc.lock"}


def test_what_a_stage_writes_in_place_does_not_reach_the_workspace_it_was_carried_from(tmp_path: Path) -> None:
    done, new = tmp_path / "retrain-1", Workspace(tmp_path / "retrain-2")
    new.root.mkdir()

    def answers(root: Path, *words: str) -> None:
        with Journal(root / "data/captions.partial/completions.jsonl", "a model") as journal:
            for word in words:
                request = Request("c", 0, "", word, temperature=0, top_p=1, seed=0, max_new_tokens=1)
                journal.add(Completion(request, word, STOP))

    def stop_after(root: Path, *clips: str) -> None:
        spec = {"modality": "music", "kind": "test", "dims": 3, "max_segments": 1}

        def compute(wanted: list[str]) -> Iterator[tuple[str, np.ndarray]]:
            for clip in clips:
                yield clip, np.full((1, 3), ord(clip), np.float32)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            update_store(root / "data/music", spec, [(clip, "k") for clip in "abcdef"], compute, 1, flush_s=0)

    answers(done, "one")
    stop_after(done, "a", "b")
    (done / "data/music.partial/part-00001.json").unlink()  # as after a kill between the two files of a part
    (done / "dvc.lock").write_text("lock")
    before = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
    assert carry_over(done, new)
    assert any(path.stat().st_nlink > 1 for path in before), "nothing is shared here: the test shows nothing"
    answers(new.root, "two")
    stop_after(new.root, "c", "d")
    assert {path: path.read_bytes() for path in done.rglob("*") if path.is_file()} == before
    answers(done, "three")
    told = (new.root / "data/captions.partial/completions.jsonl").read_text()
    assert "one" in told and "two" in told and "three" not in told


def test_a_worker_that_lacks_a_shared_registry_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEEDLEDROP_LEDGER_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    lacking = Environment.model_validate({"source": "/repository", "checkouts": "/runs"})
    with pytest.raises(Refusal, match="NEEDLEDROP_LEDGER_URL, MLFLOW_TRACKING_URI in the environment of its worker"):
        shared(lacking)
    whole = lacking.model_copy(update={"ledger_url": "sqlite:////ledger.db", "tracking_uri": "http://127.0.0.1:5000"})
    assert shared(whole) is whole
    with pytest.raises(Refusal, match="needs a server, not postgresql://name:\\*\\*\\*@host/mlflow"):
        shared(whole.model_copy(update={"tracking_uri": "postgresql://name:sesame@host/mlflow"}))
