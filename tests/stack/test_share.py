"""`needledrop push` and `pull` with a folder as the remote: whole, or refused with what is missing."""

import json
import shutil
from pathlib import Path

import pytest

from flows.environment import Environment
from flows.errors import USAGE, Refusal
from flows.share.transfer import pull, push
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
from tests.stack.shared_project import FILES, checksums, clone, make_project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("shared") / "project")


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(finished, tmp_path / "project")
    return Workspace(tmp_path / "project")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    (tmp_path / "remote").mkdir()
    monkeypatch.setenv("NEEDLEDROP_DVC_REMOTE", str(tmp_path / "remote"))
    return Environment()


def test_what_is_pushed_comes_back_and_the_rest_is_named(
    project: Workspace, environment: Environment, tmp_path: Path
) -> None:
    config = (project.root / ".dvc" / "config").read_bytes()
    sent = push(Platform(project, environment))
    assert (sent.files, sent.outputs) == (FILES + 2, 2), "the folder's list of files is a file too"
    left = {one.path: one.why for one in sent.left}
    assert set(left) == {"data/media", "data/scratch"}
    assert "out of DVC's cache" in left["data/media"]
    assert push(Platform(project, environment)).files == 0

    other = Workspace(clone(project.root, tmp_path / "clone"))
    assert pull(Platform(other, environment)).files == FILES + 2
    assert checksums(other.root) == checksums(project.root)
    assert not (other.root / "data" / "media").exists()
    assert (project.root / ".dvc" / "config").read_bytes() == config
    assert not (project.root / ".dvc" / "config.local").exists()


def test_an_output_that_is_not_what_the_lock_knows_is_named(project: Workspace, environment: Environment) -> None:
    (project.root / "data" / "big.bin").unlink()
    (project.root / "data" / "big.bin").write_bytes(b"another")
    left = {one.path: one.why for one in push(Platform(project, environment)).left}
    assert "not what dvc.lock knows" in left["data/big.bin"]


def test_a_file_that_is_in_no_cache_fails_the_push(project: Workspace, environment: Environment) -> None:
    lost = next((project.root / ".dvc" / "cache" / "files" / "md5").glob("*/*[!r]"))
    lost.chmod(0o644)
    lost.unlink()
    with pytest.raises(Refusal, match=r"files of dvc\.lock are neither in DVC's cache nor at"):
        push(Platform(project, environment))


def test_a_pull_that_cannot_be_whole_is_refused(project: Workspace, environment: Environment, tmp_path: Path) -> None:
    other = Workspace(clone(project.root, tmp_path / "clone"))
    with pytest.raises(Refusal):
        pull(Platform(other, environment))
    push(Platform(project, environment))
    lost = next((tmp_path / "remote").glob("files/md5/*/*[!r]"))
    lost.chmod(0o644)
    lost.unlink()
    with pytest.raises(Refusal, match="the remote lacks it"):
        pull(Platform(other, environment))


def test_a_damaged_file_at_the_remote_is_not_taken(
    project: Workspace, environment: Environment, tmp_path: Path
) -> None:
    push(Platform(project, environment))
    bad = next((tmp_path / "remote").glob("files/md5/*/*[!r]"))
    bad.chmod(0o644)
    bad.write_bytes(b"other content")
    other = Workspace(clone(project.root, tmp_path / "clone"))
    with pytest.raises(Refusal):
        pull(Platform(other, environment))
    for path, digest in checksums(other.root).items() if (other.root / "data" / "many").exists() else ():
        assert checksums(project.root)[path] == digest


def test_a_changed_file_here_is_replaced_only_by_force(
    project: Workspace, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(Platform(project, environment))
    mine = project.root / "data" / "big.bin"
    before = mine.read_bytes()
    mine.unlink()
    mine.write_bytes(b"mine")
    with pytest.raises(Refusal, match=r"--force.*big\.bin"):
        pull(Platform(project, environment))
    assert mine.read_bytes() == b"mine"
    pull(Platform(project, environment), force=True)
    assert mine.read_bytes() == before


def test_no_remote_and_no_service_are_said_at_once(project: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEEDLEDROP_DVC_REMOTE", raising=False)
    with pytest.raises(Refusal, match="NEEDLEDROP_DVC_REMOTE") as refused:
        push(Platform(project, Environment()))
    assert refused.value.code == USAGE
    monkeypatch.setenv("NEEDLEDROP_DVC_REMOTE", "s3://bucket/cache")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Refusal, match=r"127\.0\.0\.1:9 does not answer"):
        push(Platform(project, Environment()))


def test_the_result_is_plain_json(project: Workspace, environment: Environment) -> None:
    told = json.loads(json.dumps(push(Platform(project, environment)).as_json()))
    assert told["action"] == "push"
    assert {one["path"] for one in told["left"]} == {"data/media", "data/scratch"}
