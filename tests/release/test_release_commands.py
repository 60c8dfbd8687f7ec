"""The commands: what they print, their exit codes, and that each names the next step."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from flows.cli import main
from flows.deploy import release as deployed
from flows.errors import Refusal
from flows.registry.tracking import MODEL
from flows.release.actions import approve, promote

from .conftest import Shop

Say = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Say]:
    """Run `needledrop` in this process."""
    before = dict(os.environ)
    monkeypatch.setattr("flows.cli.signal.signal", lambda *_: None)

    def run(shop: Shop, words: str) -> "subprocess.CompletedProcess[str]":
        monkeypatch.chdir(shop.workspace.root)
        capsys.readouterr()
        try:
            code = main(words.split())
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, said.out, said.err)

    yield run
    os.environ.clear()
    os.environ.update(before)


def test_the_commands_from_a_passed_gate_to_a_rollback(two: Shop, say: Say) -> None:
    done = say(two, "approve 2 --by Ada --reason again")
    assert done.returncode == 0 and "version 2: already approved by Ada at 20" in done.stdout
    assert done.stdout.splitlines()[1].startswith("next: needledrop promote 2")
    done = say(two, "promote 2 --expect 1 --by Bob")
    assert done.stdout.startswith("version 2 is champion, model and index together; version 1 is previous\nnext: ")
    assert "version 2 is already champion" in say(two, "promote 2 --by Bob").stdout
    shown = json.loads(say(two, "release show --json").stdout)
    assert shown["aliases"] == {"champion": 2, "previous": 1}
    assert [one["state"] for one in shown["releases"]] == ["superseded", "champion"]
    done = say(two, "rollback --by Cy --reason hums --json")
    assert json.loads(done.stdout)["version"] == 1
    one = json.loads(say(two, "release show 2 --json").stdout)
    assert (one["state"], one["approved_by"], one["run_id"] != "", one["specs"]["video"]) == (
        "rolled_back", "Ada", True, "video spec"
    )  # fmt: skip
    assert [entry["detail"].get("to") for entry in one["history"]] == [
        "registered", "evaluated", "passed", "approved", "champion", "rolled_back"
    ]  # fmt: skip
    assert (one["history"][-1]["actor"], one["history"][-1]["detail"]["reason"]) == ("Cy", "hums")
    for words in ("release show", "release show 2", "audit show"):
        done = say(two, words)
        assert done.returncode == 0 and "rolled back" in done.stdout, words
    done = say(two, "retire 1 --by Ada --reason gone")
    assert done.stdout.startswith(
        "version 1 is retired\nthere is no champion now: the floors of a first champion apply"
    )
    assert "already retired" in say(two, "retire 1 --by Ada --reason gone").stdout
    done = say(two, "audit verify")
    rows = len(json.loads(say(two, "audit show --json").stdout))
    assert f"audit log: {rows} rows" in done.stdout and done.returncode == 0


def test_a_promotion_whose_words_are_lost_is_told_as_done(two: Shop, clean_environment: dict[str, str]) -> None:
    words = [sys.executable, "-m", "flows.cli", "promote", "2", "--by", "Zoë"]
    for out, code, said in (("/dev/full", 1, "what it changes is changed"), ("/dev/stdout", 0, "")):
        done = subprocess.run(
            ["sh", "-c", f'"$@" > {out}', "sh", *words],
            cwd=two.workspace.root,
            env=clean_environment | {"PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, said in done.stderr, done.stderr.count("\n")) == (code, True, code), done.stderr
        assert two.states() == {1: "superseded", 2: "champion"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("approve 9 --by Ada --reason good", 1, "no version 9 in the ledger; there is 1, 2"),
        ("approve 2 --by Eve --reason good", 1, "was approved by Ada"),
        ("approve 2 --by=- --reason good", 1, "--by must name who answers for it"),
        ("approve 2 --reason good", 2, "required: --by"),
        ("approve ../2 --by Ada --reason good", 2, "must be a whole number"),
        ("promote 9", 1, "no version 9 in the ledger"),
        ("promote 2 --expect 7", 1, "version 1 is champion, not version 7 as expected; nothing changed"),
        ("promote 2 --expect none", 1, "version 1 is champion, not none as expected"),
        ("rollback", 1, "there is no previous one"),
        ("retire 2 --by Ada --reason x", 1, "version 2 is approved: only a version that is champion"),
        ("retire 1 --reason x", 2, "required: --by"),
        ("release show 9", 1, "no version 9 in the ledger"),
    ],
)
def test_a_refusal_is_one_line_and_changes_nothing(two: Shop, say: Say, words: str, code: int, message: str) -> None:
    before = (two.releases(), two.shown())
    done = say(two, words)
    assert (done.returncode, done.stdout) == (code, "") and message in done.stderr
    assert code == 2 or done.stderr.count("\n") == 1
    assert (two.releases(), two.shown()) == before


@pytest.mark.parametrize("words", ["approve 1 --by Ada --reason good", "promote 1", "rollback"])
def test_without_releases_nothing_is_made(shop: Shop, say: Say, words: str) -> None:
    done = say(shop, words)
    assert done.returncode == 1 and "no releases yet; run `needledrop retrain`" in done.stderr
    assert not shop.workspace.ledger.exists()


def test_status_names_the_three_with_their_states(two: Shop, say: Say) -> None:
    promote(two.platform, 2, "Bob")
    two.register()
    two.gate(3, "failed")
    now = json.loads(say(two, "status --json").stdout)["releases"]
    assert {alias: (held["version"], held["state"]) for alias, held in now.items()} == {
        "champion": (2, "champion"), "previous": (1, "superseded"), "challenger": (3, "failed")
    }  # fmt: skip
    lines = say(two, "status").stdout
    assert "champion   version 2, approved by Ada" in lines and "challenger version 3, failed" in lines
    two.client.delete_model_version(MODEL, "2")
    lines = say(two, "status").stdout
    assert "champion, version 2, is gone from MLflow" in lines and "or `needledrop rollback --by YOU" in lines
    assert "brings it up to date" not in lines, "it cannot"


def test_the_way_out_when_the_champions_version_was_deleted_in_mlflow(two: Shop, say: Say) -> None:
    two.client.delete_model_version(MODEL, "1")
    lines = say(two, "status").stdout
    assert "champion, version 1, is gone from MLflow" in lines and "or `needledrop retire 1 --by YOU" in lines
    assert "promote with --champion-lost" in say(two, "promote 2 --by Bob").stderr
    assert say(two, "promote 2 --by Bob --champion-lost").returncode == 0
    assert "previous, version 1, is gone from MLflow" in say(two, "status").stdout
    refused = say(two, "rollback --by Bob --reason worse").stderr
    assert "version 1: " in refused and "or `needledrop retire 1 --by YOU --reason WHY`" in refused
    assert say(two, "retire 1 --by Bob --reason deleted").returncode == 0
    assert "gone from MLflow" not in say(two, "status").stdout
    assert two.held() == two.shown() == {"champion": 2}


def test_of_two_threads_that_promote_at_once_one_wins(shop: Shop) -> None:
    for version in (1, 2):
        shop.register()
        shop.gate(version)
        approve(shop.platform, version, "Ada", "good")
    together, outcome = threading.Barrier(2), {}

    def up(version: int) -> None:
        together.wait()
        try:
            outcome[version] = promote(shop.platform, version, "Bob").state
        except Refusal as error:
            outcome[version] = str(error)

    threads = [threading.Thread(target=up, args=(version,)) for version in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = [version for version, said in outcome.items() if said == "champion"]
    assert f"version {won} is champion; nothing changed" in outcome[3 - won]
    assert shop.shown()["champion"] == shop.held()["champion"] == won


def test_the_deployed_flows_do_the_same(two: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    monkeypatch.chdir(two.workspace.root)
    assert deployed.approve.fn(2, "Ada", "again").message == "version 2 is approved by Ada"
    with pytest.raises(Refusal, match="version 1 is champion, not version 7 as expected"):
        deployed.promote.fn(2, "Bob", expected_champion=7)
    assert deployed.promote.fn(2, "Bob", expected_champion=1).message == "version 2 is the champion"
    with pytest.raises(Refusal, match="version 2 is champion, not 1; nothing changed"):
        deployed.rollback.fn("Cy", "hums", expected_champion=1)
    assert deployed.rollback.fn("Cy", "hums", expected_champion=2).message == "version 1 is the champion again"
    assert two.held()["champion"] == two.shown()["champion"] == 1
    os.environ.clear()
    os.environ.update(before)
