"""Notices: to whatever service the address names, one for each event, in bounded time, and the address stays secret."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import select, update

from flows.environment import Environment, public, without_secrets
from flows.ledger import notices
from flows.ledger.database import transaction
from flows.ledger.lease import LEASES, LeaseLost, lease
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

from . import receivers
from .receivers import Mailbox, Webhook

SECRET = "s3cret"  # noqa: S105
ROOT = Path(__file__).parents[2]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with receivers.webhook() as made:
        yield made


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with receivers.mailbox() as made:
        yield made


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: all patience is left."""
    monkeypatch.setattr(notices, "_patience", notices._Patience(notices._LIMIT_S))


def at(folder: Path, url: str | None) -> Platform:
    return Platform(Workspace(folder), Environment(ledger_url=None, webhook_url=SecretStr(url) if url else None))


def note(platform: Platform, key: str, text: str, again: timedelta | None = None) -> None:
    with transaction(platform) as connection:
        notices.note(connection, key, text, again)


def states(platform: Platform) -> dict[str, tuple[str, int]]:
    with transaction(platform) as connection:
        rows = connection.execute(select(notices.NOTICES).order_by(notices.NOTICES.c.noted))
        return {row.key: (row.state, row.tries) for row in rows}


def long_ago(platform: Platform, key: str, since: timedelta) -> None:
    """Move what is known of a notice into the past."""
    then = (datetime.now(UTC) - since).isoformat(timespec="milliseconds")
    with transaction(platform) as connection:
        of = notices.NOTICES.c
        connection.execute(update(notices.NOTICES).where(of.key == key).values(at=then, noted=then))


def test_a_message_goes_out_once_and_failures_stay_quiet(
    webhook: Webhook, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = at(tmp_path, f"{webhook.url}/services/{SECRET}")
    caplog.set_level(logging.DEBUG)
    assert notices.send(platform, "*drift*, 3 < 4 & more", "drift/1")
    assert not notices.send(platform, "*drift*, 3 < 4 & more", "drift/1")
    assert webhook.got == [(f"/services/{SECRET}", {"text": "*drift*, 3 < 4 & more"})], "as Slack and others want it"
    webhook.codes += [500, 429]
    assert notices.send(platform, "second", "drift/2"), "the third try is answered"
    webhook.codes += [404]
    left_s = notices._patience.left_s
    assert not notices.send(platform, "third", "drift/3") and notices._patience.left_s < left_s
    assert webhook.codes == [] and "the service answered 404" in caplog.text, "asked once"
    assert not notices.pass_by(platform), "nor at once again"
    monkeypatch.setattr(notices, "_FIRST_PAUSE", timedelta(0))
    assert notices.pass_by(platform) == ["drift/3"], "whoever passes by later"
    assert webhook.texts == ["*drift*, 3 < 4 & more", "second", "third"]
    for url in (f"http://127.0.0.1:9/services/{SECRET}", SECRET, f"https://{SECRET}@", f"nothing://{SECRET}"):
        assert not notices.send(at(tmp_path, url), "fourth", "drift/4")
    assert "does not answer" in caplog.text and caplog.text.count("is neither a web address nor") == 3
    assert SECRET not in caplog.text


@pytest.mark.parametrize("path", [f"/a%2Fb/{SECRET}", f"/hook?sig={SECRET}&v=1", "/", f"/ü/{SECRET}?empty="])
def test_a_web_address_is_kept_to_the_letter(webhook: Webhook, tmp_path: Path, path: str) -> None:
    assert notices.send(at(tmp_path, webhook.url + path), "words", "key")
    assert webhook.got == [(path.replace("ü", "%C3%BC"), {"text": "words"})]


def test_any_address_that_apprise_knows_is_one(webhook: Webhook, tmp_path: Path) -> None:
    platform = at(tmp_path, webhook.url.replace("http://", "json://") + f"/{SECRET}")
    assert notices.send(platform, "words", "one") and notices.send(platform, "headline\nwords\nlink", "three")
    (path, one), (_, three) = webhook.got
    assert path.strip("/") == SECRET and one["message"] == "words"
    assert (three["title"], three["message"]) == ("headline", "words\nlink")


def test_a_letter_has_the_headline_as_its_subject(mailbox: Mailbox, tmp_path: Path) -> None:
    address = f"mailto://127.0.0.1:{mailbox.port}?from=needledrop@example.org&to=team@example.org"
    assert notices.send(at(tmp_path, address), "needledrop: version 2 passed its gate\n+6.3 points\nhttp://m/2", "key")
    (letter,) = mailbox.letters
    assert letter["Subject"] == "needledrop: version 2 passed its gate" and "team@example.org" in str(letter["To"])
    parts = [part.get_payload(decode=True) for part in letter.walk() if part.get_content_type() == "text/plain"]
    assert [part.split() for part in parts if isinstance(part, bytes)] == [[b"+6.3", b"points", b"http://m/2"]]


@pytest.mark.parametrize("manner", ["hangs", "drips"])
def test_a_service_without_an_answer_is_left_after_the_limit_and_nobody_sees_the_address(
    webhook: Webhook,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    manner: receivers.Manner,
) -> None:
    monkeypatch.setattr(notices, "_LIMIT_S", 3.0)
    monkeypatch.setattr(notices, "_FIRST_PAUSE", timedelta(0))
    webhook.manner, platform, done = manner, at(tmp_path, f"{webhook.url}/{SECRET}"), list[bool]()
    note(platform, "later", "another")
    began = time.monotonic()
    sending = threading.Thread(target=lambda: done.append(notices.send(platform, "words", "key")))
    sending.start()
    while not webhook.got and time.monotonic() < began + 60:
        time.sleep(0.05)
    seen = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    sending.join(60)
    assert done == [False] and time.monotonic() - began < 15
    assert any("deliver.py" in words for words in seen) and not any(SECRET in words for words in seen)
    assert "did not answer within 3 s" in caplog.text and SECRET not in caplog.text
    assert not any("deliver.py" in " ".join(child.cmdline()) for child in psutil.Process().children(recursive=True))
    # A process loses this time once, however much it has to tell.
    again = time.monotonic()
    notices._patience.left_s = 0.0
    assert not notices.send(platform, "third", "third") and time.monotonic() - again < 1
    assert states(platform) == {"later": ("waiting", 1), "key": ("waiting", 0), "third": ("waiting", 0)}


def test_an_answer_counts_when_its_status_is_there(webhook: Webhook, tmp_path: Path) -> None:
    webhook.manner = "drips after its answer"
    assert notices.send(at(tmp_path, webhook.url), "words", "key"), "it has got it, and is not told twice"


def test_what_waits_is_told_by_another_process_and_once(webhook: Webhook, tmp_path: Path) -> None:
    note(at(tmp_path, None), "one", "first")
    note(at(tmp_path, None), "one", "first, with its figures")
    note(at(tmp_path, None), "two", "second")
    assert notices.pass_by(at(tmp_path, None)) == [] and webhook.got == [], "who has no address leaves it"
    told = (
        "import sys; from pathlib import Path; from flows.environment import Environment;"
        "from flows.ledger.notices import pass_by; from flows.workspace.platform import Platform;"
        "from flows.workspace.workspace import Workspace;"
        "print(len(pass_by(Platform(Workspace(Path(sys.argv[1])), Environment(webhook_url=sys.argv[2])))))"
    )
    many = [
        subprocess.Popen(
            [sys.executable, "-c", told, str(tmp_path), webhook.url], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    counts = [int(process.communicate(timeout=120)[0]) for process in many]
    assert sum(counts) == 2 and sorted(webhook.texts) == ["first, with its figures", "second"]
    assert set(states(at(tmp_path, None)).values()) == {("sent", 0)}


def test_an_hour_of_errors_costs_few_tries_and_the_first_answer_brings_all(
    webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "_FIRST_PAUSE", timedelta(minutes=1))
    assert [notices._pause(tries) // timedelta(minutes=1) for tries in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    platform = at(tmp_path, webhook.url)
    webhook.codes += [404, 404]
    assert not notices.send(platform, "one", "one") and not notices.send(platform, "two", "two")
    assert states(platform) == {"one": ("waiting", 1), "two": ("waiting", 0)}, "away a moment ago: not asked"
    long_ago(platform, "one", timedelta(seconds=61))
    assert notices.pass_by(platform) == [], "the second 404"
    assert states(platform)["two"] == ("waiting", 1)
    long_ago(platform, "two", timedelta(seconds=61))
    assert notices.pass_by(platform) == ["one", "two"] or sorted(webhook.texts) == ["one", "two"]


def test_one_message_that_is_refused_does_not_hold_up_the_others(webhook: Webhook, tmp_path: Path) -> None:
    platform = at(tmp_path, webhook.url)
    webhook.codes += [400]
    assert not notices.send(platform, "too odd", "odd")
    long_ago(platform, "odd", timedelta(seconds=61))
    webhook.codes += [200, 400]
    assert notices.send(platform, "fine", "fine") and states(platform)["odd"] == ("waiting", 2)
    assert notices.send(platform, "fine too", "fine too"), "the service answers, only not to that one"


def test_a_notice_is_given_up_after_a_day_and_the_log_says_so(
    webhook: Webhook, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    platform = at(tmp_path, webhook.url)
    note(platform, "old", "old")
    long_ago(platform, "old", timedelta(hours=25))
    assert notices.send(platform, "new", "new")
    assert webhook.texts == ["new"] and "the notice old is given up" in caplog.text
    note(at(tmp_path, None), "untold", "untold")
    long_ago(platform, "untold", timedelta(hours=49))
    note(at(tmp_path, None), "another", "another")
    assert set(states(platform)) == {"new", "another"}, "without an address anywhere they do not pile up"


def test_what_goes_on_is_told_again_after_a_day_or_when_it_was_forgotten(webhook: Webhook, tmp_path: Path) -> None:
    platform = at(tmp_path, webhook.url)

    def told(key: str) -> bool:
        note(platform, key, key, again=notices.DAY)
        return key in notices.pass_by(platform)

    assert told("failed/a/1") and not told("failed/a/1")
    long_ago(platform, "failed/a/1", timedelta(hours=23))
    assert not told("failed/a/1")
    long_ago(platform, "failed/a/1", timedelta(hours=25))
    assert told("failed/a/1") and not told("failed/a/1")
    assert told("failed/a/2") and told("failed/ab/1")
    with transaction(platform) as connection:
        notices.forget(connection, "failed/a/", but="failed/a/2")
    assert told("failed/a/1") and not told("failed/a/2") and not told("failed/ab/1")


def test_who_was_killed_while_sending_is_taken_over(webhook: Webhook, tmp_path: Path) -> None:
    platform = at(tmp_path, webhook.url)
    note(platform, "key", "words")
    with transaction(platform) as connection:
        connection.execute(update(notices.NOTICES).values(state="sending"))
    assert notices.pass_by(platform) == []
    long_ago(platform, "key", timedelta(minutes=11))
    assert notices.pass_by(platform) == ["key"]


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=400)])
def test_what_a_clock_that_was_ahead_has_written_holds_up_nothing(
    webhook: Webhook, tmp_path: Path, ahead: timedelta
) -> None:
    platform = at(tmp_path, webhook.url)
    webhook.codes += [404]
    assert not notices.send(platform, "failed", "failed")
    long_ago(platform, "failed", -ahead)
    assert notices.send(platform, "new", "new") and states(platform)["failed"] == ("sent", 1)

    note(platform, "sending", "sending")
    with transaction(platform) as connection:
        connection.execute(update(notices.NOTICES).where(notices.NOTICES.c.key == "sending").values(state="sending"))
    long_ago(platform, "sending", -ahead)
    assert notices.pass_by(platform) == ["sending"], "who sent it died"

    assert notices.claim(platform, "event")
    long_ago(platform, "event", -ahead)
    assert notices.claim(platform, "event")


def test_the_day_of_a_notice_that_a_clock_far_ahead_has_noted_begins_now(webhook: Webhook, tmp_path: Path) -> None:
    platform = at(tmp_path, webhook.url)
    note(platform, "old", "old")
    long_ago(platform, "old", timedelta(days=-400))
    webhook.codes += [404]
    assert notices.pass_by(platform) == []
    with transaction(platform) as connection:
        noted = connection.execute(select(notices.NOTICES.c.noted)).scalar_one()
    assert abs(datetime.now(UTC) - datetime.fromisoformat(noted)) < timedelta(minutes=5), "it counts from now"


def test_what_goes_on_is_told_again_though_a_clock_was_ahead(webhook: Webhook, tmp_path: Path) -> None:
    platform = at(tmp_path, webhook.url)
    note(platform, "failed", "failed", again=notices.DAY)
    assert notices.pass_by(platform) == ["failed"]
    long_ago(platform, "failed", timedelta(days=-400))
    note(platform, "failed", "failed", again=notices.DAY)
    assert notices.pass_by(platform) == ["failed"]


def test_reasons_are_alike_but_for_their_numbers() -> None:
    one = notices.alike("MLflow at http://m:5000 does not answer (attempt 3, run 5f2a-09)")
    assert one == notices.alike("MLflow at http://m:5000 does not answer (attempt 4, run 5f2b-10)")
    assert one != notices.alike("MLflow at http://m:5000 refuses (attempt 3, run 5f2a-09)")


def test_no_secret_of_the_environment_is_in_a_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "open-sesame")
    monkeypatch.setenv("COMPLETIONS_KEY", "k-1234567")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:other-sesame")
    monkeypatch.setenv("NEEDLEDROP_LEDGER_URL", "postgresql://me:third%2Fsesame@db/ledger")
    monkeypatch.setenv("NEEDLEDROP_WEBHOOK_URL", "https://hooks.example.org/services/sesame")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "needledrop:stacked")
    monkeypatch.setenv("A_PASS", "short")
    said = "open-sesame, k-1234567, other-sesame, third%2Fsesame, third/sesame, url: /services/sesame: a short line"
    assert without_secrets(said) == "***, ***, ***, ***, ***, url: /***: a short line"
    assert without_secrets("needledrop: version 2 is stacked") == "needledrop: version 2 is stacked"
    note(at(tmp_path, None), "key", said)
    assert b"sesame" not in (tmp_path / ".needledrop/ledger.db").read_bytes()
    assert public("http://me:sesame@host:5000/mlflow/?token=x#y") == "http://host:5000/mlflow"
    assert public("sqlite:///x.db") is None and public("http://[") is None


def test_a_long_text_keeps_its_headline_and_its_link(tmp_path: Path) -> None:
    platform = at(tmp_path, None)
    note(platform, "key", f"headline\n{'word ' * 1000}\nhttps://m.example.org/2")
    with transaction(platform) as connection:
        (text,) = connection.execute(select(notices.NOTICES.c.text)).scalars()
    assert len(text) <= 2000 and text.startswith("headline\nword")
    assert text.splitlines()[-1] == "https://m.example.org/2"


def test_without_an_address_nothing_is_sent(tmp_path: Path) -> None:
    assert not notices.send(at(tmp_path, None), "words", "key")


def test_an_empty_variable_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compose file hands on what nobody has set as nothing."""
    monkeypatch.setenv("NEEDLEDROP_WEBHOOK_URL", "")
    assert Environment().webhook_url is None


def test_who_has_lost_a_lease_tells_nobody(webhook: Webhook, tmp_path: Path) -> None:
    platform = at(tmp_path, f"{webhook.url}/{SECRET}")
    with pytest.raises(LeaseLost), lease(platform, "train", 600):
        with transaction(platform) as connection:
            connection.execute(update(LEASES).values(token="another's"))  # noqa: S106
        notices.send(platform, "words", "key")
    assert webhook.got == []
