"""Whoever asks gets what was signed: the ledger's champion, its files as registered, its own code apart from all other."""

import _thread
import hashlib
import os
import py_compile
import random
import re
import runpy
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.environment import Environment
from flows.errors import Refusal
from flows.registry.tracking import MODEL
from flows.release.actions import promote, rollback
from flows.release.needs import check_needs
from flows.release.own_code import OwnCode, Query
from flows.release.recommend import ask
from flows.release.verified import forget, verify
from tests.flows.conftest import gone

from .conftest import Shop, write_files

CHANGES = 12


def asked(shop: Shop, text: str = "calm piano", video: Path | None = None, alias: str | None = None) -> dict[str, Any]:
    return ask(shop.platform, video, text, 2, alias)


def refusal(shop: Shop, action: Callable[[], object]) -> str:
    """The one line that an action is refused with; ledger and MLflow are as before."""
    before = (shop.releases(), shop.shown())
    with pytest.raises(Refusal) as raised:
        action()
    assert "\n" not in str(raised.value)
    assert (shop.releases(), shop.shown()) == before
    return str(raised.value)


# -- who is asked ---------------------------------------------------------------------------------


def test_an_alias_that_was_moved_by_hand_is_not_followed(two: Shop) -> None:
    two.client.set_registered_model_alias(MODEL, "champion", "2")
    answer = asked(two)
    assert (answer["model"], answer["alias"]) == ("needledrop version 1", "champion")
    assert "MLflow's champion is version 2, the ledger's version 1: the ledger is followed" in answer["note"]
    assert [hit["rank"] for hit in answer["ranking"]] == [1, 2]


def test_what_the_ledger_does_not_know_is_refused_by_name(two: Shop) -> None:
    client = two.client
    shutil.copytree(two.folder(1), two.folder(3))
    client.create_model_version(MODEL, two.folder(3).as_uri(), two.releases()[0].run_id)
    client.set_registered_model_alias(MODEL, "staging", "3")
    said = refusal(two, lambda: asked(two, alias="staging"))
    assert "'staging' is MLflow's alone, for version 3, which was registered outside the ledger" in said
    assert "there is challenger (version 2), champion (version 1)" in said
    client.set_registered_model_alias(MODEL, "staging", "2")
    assert "is MLflow's alone, for version 2; " in refusal(two, lambda: asked(two, alias="staging"))
    assert "no model has the alias 'best' in the ledger" in refusal(two, lambda: asked(two, alias="best"))


def test_a_store_that_the_ledger_knows_nothing_of(shop: Shop) -> None:
    client, run = shop.client, shop.client.create_run("0")
    (shop.folder(1)).mkdir(parents=True)
    client.create_model_version(MODEL, shop.folder(1).as_uri(), run.info.run_id)
    client.set_registered_model_alias(MODEL, "champion", "1")
    said = refusal(shop, lambda: asked(shop))
    assert "version 1, which was registered outside the ledger" in said and "`needledrop register`" in said
    client.delete_registered_model_alias(MODEL, "champion")


def test_a_champion_that_is_gone_is_said_with_a_way_that_works(two: Shop) -> None:
    kept = two.folder(1).rename(two.folder(1).with_suffix(".away"))
    said = refusal(two, lambda: asked(two))
    assert said.startswith("champion, version 1, is gone: ")
    assert said.endswith("MLflow's store, or end it in the open with `needledrop retire 1 --by YOU --reason WHY`")
    kept.rename(two.folder(1))

    promote(two.platform, 2, "Bob")
    two.client.delete_model_version(MODEL, "2")
    said = refusal(two, lambda: asked(two))
    assert said.startswith("champion, version 2, is gone: ")
    assert "`needledrop rollback --by YOU --reason WHY` to version 1, which is whole" in said
    (two.folder(1) / "code/search.py").write_text("K = 11\n")
    assert "rollback" not in refusal(two, lambda: asked(two)), "there is nothing whole to go back to"
    (two.folder(1) / "code/search.py").write_text("K = 10\n")
    assert rollback(two.platform, "Cy", "its version was deleted").version == 1


# -- what is verified -----------------------------------------------------------------------------


def test_a_byte_that_is_changed_anywhere_is_refused_by_all_who_read_it(two: Shop) -> None:
    files = sorted(path for path in two.folder(2).rglob("*") if path.is_file())
    draw, release = random.Random(CHANGES), two.releases()[1]
    for at in range(CHANGES):
        path = draw.choice(files)
        kept = path.read_bytes()
        place, bit = draw.randrange(len(kept)), 1 << draw.randrange(8)
        path.write_bytes(kept[:place] + bytes([kept[place] ^ bit]) + kept[place + 1 :])
        for action in (
            lambda: asked(two, alias="challenger"),
            lambda: promote(two.platform, 2, "Bob"),
            lambda: verify(two.client, two.workspace, release),  # as the gate does
        ):
            assert "version 2" in refusal(two, action), f"change {at}: {path.name}, byte {place}"
        path.write_bytes(kept)
    assert promote(two.platform, 2, "Bob").state == "champion"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose bytes are read for a digest from now on, in a time when all of them are settled."""
    names: list[str] = []
    digest, clock = hashlib.file_digest, time.time_ns

    def told(file: Any, kind: Any) -> Any:
        names.append(Path(file.name).name)
        return digest(file, kind)

    monkeypatch.setattr("hashlib.file_digest", told)
    monkeypatch.setattr("time.time_ns", lambda: clock() + 10_000_000_000)
    return names


def test_what_was_verified_is_read_again_only_when_it_changes(two: Shop, read: list[str]) -> None:
    release, client, folder = two.releases()[0], two.client, two.folder(1)
    first = verify(client, two.workspace, release)
    assert first.folder == folder and "told.py" in read
    read.clear()
    assert verify(client, two.workspace, release) == first and read == []

    path = folder / "code/search.py"
    about = path.stat()
    with path.open("r+b") as file:
        file.write(b"k")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (about.st_size, about.st_mtime_ns)
    with pytest.raises(Refusal, match="its logged files are not what was registered"):
        verify(client, two.workspace, release)
    path.write_bytes(b"K = 10\n")
    read.clear()
    verify(client, two.workspace, release)
    assert "search.py" in read


def test_files_that_are_new_or_gone_or_no_files_are_refused_by_name(two: Shop, read: list[str]) -> None:
    release, client, folder = two.releases()[0], two.client, two.folder(1)
    verify(client, two.workspace, release)
    new = folder / "code/components/more.py"
    new.write_text("")
    assert "not what was registered" in refusal(two, lambda: asked(two))
    new.unlink()
    kept = (folder / "code/search.py").rename(folder.with_suffix(".kept"))
    assert "not what was registered" in refusal(two, lambda: asked(two))
    (folder / "code/search.py").symlink_to(folder / "MLmodel")
    assert "code/search.py is a symbolic link" in refusal(two, lambda: asked(two))
    (folder / "code/search.py").unlink()
    os.mkfifo(folder / "code/search.py")
    assert "code/search.py is no plain file" in refusal(two, lambda: asked(two))
    (folder / "code/search.py").unlink()
    kept.rename(folder / "code/search.py")
    assert verify(client, two.workspace, release).folder == folder


def test_files_that_change_just_now_are_not_remembered(two: Shop) -> None:
    verify(two.client, two.workspace, two.releases()[0])
    assert not list(two.workspace.verified.glob("*")), "another change could have the same time"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    look_alike = runpy.run_path(str(Path(__file__).parents[1] / "corpus/s3_look_alike.py"))
    with look_alike["served"](look_alike["Bucket"](name="models")) as served:
        monkeypatch.setenv("AWS_ENDPOINT_URL", served.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield served


def test_files_in_a_bucket_are_fetched_once_and_the_copy_is_verified_like_a_store(
    shop: Shop, bucket: Any, read: list[str]
) -> None:
    write_files(shop.folder(1), 1)
    files = {path.relative_to(shop.folder(1)).as_posix(): path for path in shop.folder(1).rglob("*") if path.is_file()}
    bucket.objects |= {f"one/{name}": path.read_bytes() for name, path in files.items()}
    release = shop.enter(1, "s3://models/one")
    read.clear()
    bucket.asked.clear()
    found = verify(shop.client, shop.workspace, release)
    assert found.folder.is_relative_to(shop.workspace.verified) and set(found.marks) == set(files)
    assert bucket.asked and read
    bucket.asked.clear()
    read.clear()
    assert verify(shop.client, shop.workspace, release) == found and (bucket.asked, read) == ([], [])

    (found.folder / "code/search.py").write_text("K = 11\n")
    assert verify(shop.client, shop.workspace, release).marks.keys() == found.marks.keys(), "a copy is made anew"
    assert (found.folder / "code/search.py").read_text() == "K = 10\n" and bucket.asked
    forget(shop.workspace, {"another"})
    assert list(shop.workspace.verified.iterdir()) == []
    bucket.objects["one/code/search.py"] = b"K = 11\n"
    with pytest.raises(Refusal, match="version 1: its logged files are not what was registered"):
        verify(shop.client, shop.workspace, release)
    assert list(shop.workspace.verified.iterdir()) == [], "no copy of what was not signed"


# -- whose code answers ---------------------------------------------------------------------------


def test_neither_bytecode_nor_other_packages_of_the_name_are_run(
    two: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "components/told.py"
    planted.parent.mkdir()
    (planted.parent / "__init__.py").write_text("")
    planted.write_text("def answer(rows):\n    raise KeyError('planted')\n")
    own = two.folder(1) / "code/components/told.py"
    # Bytecode counts as that of a source of the same size and time.
    script = tmp_path / "told.py"
    script.write_text(planted.read_text().ljust(own.stat().st_size, "\n"))
    os.utime(script, ns=(own.stat().st_atime_ns, own.stat().st_mtime_ns))
    cached = own.parent / "__pycache__"
    cached.mkdir()
    py_compile.compile(str(script), str(cached / f"told.{sys.implementation.cache_tag}.pyc"), doraise=True)
    plain = subprocess.run(
        [sys.executable, "-c", "import told; told.answer([])"],
        cwd=own.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "KeyError: 'planted'" in plain.stderr, "Python itself would run it"
    (two.folder(1) / "registered_model_meta").write_text("model_name: other\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    told = tmp_path / "pids"
    told.touch()
    (first, _) = asked(two, "start", told)["ranking"]
    assert first["score"] == 0.1 and first["clip_id"] == "a"
    assert first["title"] is None, "nothing of today can be imported"
    assert len(list(cached.iterdir())) == 1, "nor is any written"
    assert all(gone(int(pid)) for pid in told.read_text().split()), "neither in its group nor outside"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("raise", r"the code of version 1 failed while answering: KeyError: 'strings'"),
        ("exit", r"the code of version 1 failed while answering: SystemExit: 3"),
        ("end", r"version 1 ended without an answer \(exit code 4\): the last line"),
        ("memory", r"out of memory.*it may have 16384 MiB, NEEDLEDROP_VERSION_MEMORY_MIB allows more"),
        ("nonsense", r"version 1 gave no answer that can be used: its ranks are not those of 1 queries"),
        ("refuse", r"^a query needs a video$"),
    ],
)
def test_code_that_does_not_answer_is_one_line(two: Shop, told: str, words: str) -> None:
    said = refusal(two, lambda: asked(two, told))
    assert re.search(words, said), said


def test_code_that_takes_too_long_is_ended(two: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEEDLEDROP_VERSION_LIMIT_S", "0.3")
    said = refusal(two, lambda: asked(two, "hang"))
    assert said == "version 1 did not answer within 0.3 s and was ended; NEEDLEDROP_VERSION_LIMIT_S allows more"


def test_an_interrupt_leaves_nothing(two: Shop, tmp_path: Path) -> None:
    told = tmp_path / "pids"
    told.touch()

    def interrupt() -> None:
        while not told.read_text():
            time.sleep(0.02)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        asked(two, "hang", told)
    pids = told.read_text().split()
    assert len(pids) == 2 and all(gone(int(pid)) for pid in pids)


STARTED = """
import time
from flows.environment import Environment
from flows.release.own_code import OwnCode

code = OwnCode(Environment())
time.sleep(600)
"""


def test_it_ends_with_who_started_it_however_that_ends(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTED], env=os.environ | {"TMPDIR": str(tmp_path)}) as parent:
        try:
            while not (children := psutil.Process(parent.pid).children()):
                time.sleep(0.02)
        finally:
            parent.kill()
    assert gone(children[0].pid)


def test_many_queries_are_answered_by_one_process(two: Shop) -> None:
    files = verify(two.client, two.workspace, two.releases()[0])
    with OwnCode(Environment()) as code:
        hits = code.ask(files, [Query(video=None, text=str(k), k=k) for k in (2, 1)])
    assert [(hit.query, hit.rank) for hit in hits] == [(0, 1), (0, 2), (1, 1)]


# -- what a version needs -------------------------------------------------------------------------


def test_packages_that_are_missing_or_others_are_named_with_the_command(tmp_path: Path) -> None:
    needs = tmp_path / "requirements.txt"
    assert check_needs(tmp_path, 7) == "", "one that asks for nothing"
    needs.write_text("# comment\n-r other.txt\nnumpy>=1\nnothing-such==2; python_version < '3'\n")
    assert check_needs(tmp_path, 7) == ""
    needs.write_text("numpy==0.1\nno package\n")
    said = check_needs(tmp_path, 7)
    assert said.startswith("version 7 was made with numpy==0.1 (here ") and "no package (cannot be read here)" in said
    assert said.endswith("-m pip install numpy==0.1`")
    needs.write_text("numpy==0.1\nnothing-such==2.0\n")
    with pytest.raises(
        Refusal,
        match=r"version 7 needs nothing-such==2\.0, not installed here; run `.* pip install nothing-such==2\.0`",
    ):
        check_needs(tmp_path, 7)
    needs.unlink()
    (tmp_path / "python_env.yaml").write_text("python: 2.7.1\n")
    assert check_needs(tmp_path, 7).startswith("version 7 was made with Python 2.7, this is 3.")
