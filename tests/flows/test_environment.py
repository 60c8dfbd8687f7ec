"""What the environment holds of other tools' does not stand in the way."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import requests

from flows.environment import prepare


@pytest.fixture
def server() -> Iterator[str]:
    """A server on this machine that answers every question."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment with a proxy that nobody can reach; it is as it was afterwards."""
    before = dict(os.environ)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    yield monkeypatch
    os.environ.clear()
    os.environ.update(before)


def test_servers_of_this_machine_are_not_asked_through_a_proxy(
    server: str, proxied: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get(server, timeout=10)
    prepare(tmp_path)
    assert requests.get(server, timeout=10).status_code == httpx.get(server).status_code == 200


def test_what_is_spared_already_stays_so(proxied: pytest.MonkeyPatch, tmp_path: Path) -> None:
    proxied.setenv("NO_PROXY", ".example.org, 10.0.0.1")
    proxied.setenv("no_proxy", "localhost")
    prepare(tmp_path)
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == ".example.org,10.0.0.1,localhost,127.0.0.1,::1"


def test_without_a_proxy_nothing_is_set(proxied: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        proxied.delenv(name)
    prepare(tmp_path)
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == ""
