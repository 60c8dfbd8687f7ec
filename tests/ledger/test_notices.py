"""Notices: to whatever service the address names, once for each key, in bounded time, and the address stays secret."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import update

from flows.environment import Environment
from flows.ledger import notices
from flows.ledger.database import transaction
from flows.ledger.lease import LEASES, LeaseLost, lease
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

SECRET = "s3cret"  # noqa: S105


@dataclass
class Webhook:
    """What a service got, and how it will answer: with 200, or with `codes`, or a byte a second."""

    url: str = ""
    got: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    drips: bool = False

    @property
    def texts(self) -> list[str]:
        return [body["text"] for _, body in self.got]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code = made.codes.pop(0) if made.codes else 200
            if code == 200:
                made.got.append((self.path, body))
            self.send_response(code)
            self.end_headers()
            try:
                while made.drips:
                    self.wfile.write(b".")
                    time.sleep(1)
            except OSError:
                return

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    made.drips = False
    server.shutdown()
    server.server_close()


def at(folder: Path, url: str) -> Platform:
    return Platform(Workspace(folder), Environment(ledger_url=None, webhook_url=SecretStr(url)))


def test_a_message_goes_out_once_and_failures_stay_quiet(
    webhook: Webhook, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    platform = at(tmp_path, f"{webhook.url}/services/{SECRET}")
    caplog.set_level(logging.DEBUG)
    assert notices.send(platform, "*drift*, 3 < 4 & more", "drift/1")
    assert not notices.send(platform, "*drift*, 3 < 4 & more", "drift/1")
    assert webhook.got == [(f"/services/{SECRET}", {"text": "*drift*, 3 < 4 & more"})], "as Slack and others want it"
    webhook.codes += [500, 429]
    assert notices.send(platform, "second", "drift/2"), "the third try is answered"
    webhook.codes += [404]
    assert not notices.send(platform, "third", "drift/3")
    assert webhook.codes == [] and "the webhook answered 404" in caplog.text, "asked once"
    assert notices.send(platform, "third", "drift/3"), "a message that failed may be sent again"
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
    assert notices.send(at(tmp_path, webhook.url.replace("http://", "json://") + f"/{SECRET}"), "words", "key")
    ((path, body),) = webhook.got
    assert path.strip("/") == SECRET and body["message"] == "words"


def test_a_service_that_drips_is_left_after_the_limit_and_nobody_sees_the_address(
    webhook: Webhook, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "_LIMIT_S", 8.0)
    webhook.drips = True
    done: list[bool] = []
    began = time.monotonic()
    sending = threading.Thread(
        target=lambda: done.append(notices.send(at(tmp_path, f"{webhook.url}/{SECRET}"), "words", "key"))
    )
    sending.start()
    while not webhook.got and time.monotonic() < began + 60:
        time.sleep(0.05)
    seen = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    sending.join(60)
    assert done == [False] and time.monotonic() - began < 20
    assert any("deliver.py" in words for words in seen) and not any(SECRET in words for words in seen)
    assert "did not answer within 8 s" in caplog.text and SECRET not in caplog.text
    assert not any("deliver.py" in " ".join(child.cmdline()) for child in psutil.Process().children(recursive=True))


def test_without_an_address_nothing_is_sent(tmp_path: Path) -> None:
    assert not notices.send(Platform(Workspace(tmp_path), Environment(webhook_url=None)), "words", "key")


def test_who_has_lost_a_lease_tells_nobody(webhook: Webhook, tmp_path: Path) -> None:
    platform = at(tmp_path, f"{webhook.url}/{SECRET}")
    with pytest.raises(LeaseLost), lease(platform, "train", 600):
        with transaction(platform) as connection:
            connection.execute(update(LEASES).values(token="another's"))  # noqa: S106
        notices.send(platform, "words", "key")
    assert webhook.got == []
