"""What drift may start, and whom it tells."""

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from flows.drift import budget
from flows.drift.settings import Retrains
from flows.environment import Environment
from flows.ledger import notices as notify
from flows.ledger.database import transaction
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMITS = Retrains(per_week=2, apart_h=24)


def ask(workspace: Workspace, key: str, hours: float, run: str | None = "flow-run") -> budget.Claim:
    now = NOW + timedelta(hours=hours)
    with transaction(Platform(workspace, Environment())) as connection:
        claimed = budget.claim(connection, key, 1, LIMITS, now)
        if claimed.start and run:
            budget.confirm(connection, key, run)
    return claimed


def test_the_same_media_start_one_retrain_only(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert ask(workspace, "a", 0).start
    again = ask(workspace, "a", 1000)
    assert not again.start
    assert "started a retrain already" in again.why


def test_a_claim_whose_start_was_cut_off_may_be_made_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert ask(workspace, "a", 0, run=None).start
    assert ask(workspace, "a", 1).start


def test_cool_down_and_weekly_budget(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert ask(workspace, "a", 0).start
    assert "2026-03-02T12:00:00" in ask(workspace, "b", 23).why
    assert ask(workspace, "b", 24).start
    assert "within seven days" in ask(workspace, "c", 100).why
    assert ask(workspace, "c", 7 * 24 + 1).start


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[str], list[int]]]:
    """A webhook's address, the texts it got, and the codes it will answer with (200 when there are none)."""
    texts: list[str] = []
    codes: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code = codes.pop(0) if codes else 200
            if code == 200:
                texts.append(json.loads(body)["text"])
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/services/s3cret", texts, codes
    server.shutdown()
    server.server_close()


def test_a_message_goes_out_once_and_failures_stay_quiet(
    webhook: tuple[str, list[str], list[int]], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    url, texts, codes = webhook
    monkeypatch.setattr(notify, "_PAUSES_S", (0.0, 0.0, 0.0))
    workspace = Workspace(tmp_path)
    platform = Platform(workspace, Environment(webhook_url=SecretStr(url)))
    caplog.set_level(logging.DEBUG)
    assert notify.send(platform, "drift", "drift/1")
    assert not notify.send(platform, "drift", "drift/1")
    assert texts == ["drift"]
    codes += [500, 500]
    assert notify.send(platform, "second", "drift/2"), "the third try is answered"
    codes += [404]
    assert not notify.send(platform, "third", "drift/3")
    assert notify.send(platform, "third", "drift/3"), "a message that failed may be sent again"
    assert texts == ["drift", "second", "third"]
    assert "answered 404" in caplog.text
    gone = Environment(webhook_url=SecretStr("http://127.0.0.1:9/services/s3cret"))
    assert not notify.send(Platform(workspace, gone), "fourth", "drift/4")
    assert not notify.send(Platform(workspace, Environment(webhook_url=SecretStr("s3cret"))), "fifth", "drift/5")
    assert "s3cret" not in caplog.text
