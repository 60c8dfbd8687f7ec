"""A completions server on loopback for tests: it answers by rule, misbehaves on request, and counts."""

import hashlib
import http.client
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = [
    "warm",
    "slow",
    "bright",
    "folk",
    "rock",
    "piano",
    "strings",
    "drums",
    "quiet",
    "night",
    "road",
    "river",
    "song",
]
SLOW, RESET, HALF, GARBAGE, PAGE, EMPTY = "slow", "reset", "half", "garbage", "page", "no choices"
FAULTS = (429, 500, 503, 408, SLOW, RESET, HALF, GARBAGE, PAGE, EMPTY)

Answer = tuple[int, bytes]  # status, body


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    body: dict[str, Any]
    authorization: str | None
    path: str


class Completions(ThreadingHTTPServer):
    """Counts what it is asked; answers by ``answer`` or commits the fault that ``fault`` names.

    Args:
        answer: the body of a request -> status and response.
        fault: prompt and how often it came before -> one of ``FAULTS``, any status code, or None.
        wait_s: how long an answer takes.
        headers: of every response, besides the usual ones.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self,
        answer: Callable[[bytes], Answer],
        fault: Callable[[str, int], object] = lambda prompt, before: None,
        wait_s: float = 0.0,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.fault, self.wait_s, self.headers = answer, fault, wait_s, headers or {}
        self.retry_after = "0.02"
        self.asked: list[Asked] = []
        self.received: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()  # in full
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent: clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Completions

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.loads(raw)
        prompt, server = body["prompt"], self.server
        with server.lock:
            before = server.received[prompt]
            server.received[prompt] += 1
            server.asked.append(Asked(body, self.headers["Authorization"], self.path))
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            server.stopping.wait(server.wait_s)
            fault = server.fault(prompt, before)
            if fault is None:
                status, answer = server.answer(raw)
                if status == 200:
                    with server.lock:
                        server.answered[prompt] += 1
                self._under_way_no_more()
                self._send(status, answer)
            else:
                self._misbehave(fault, raw)
        finally:
            self._under_way_no_more()

    def _under_way_no_more(self) -> None:
        """Count a request as ended before its last byte can be read, or else the client is faster."""
        if not getattr(self, "_ended", False):
            self._ended = True
            with self.server.lock:
                self.server.under_way -= 1

    def handle_one_request(self) -> None:
        self._ended = False
        super().handle_one_request()

    def _send(self, status: int, body: bytes, kind: str = "application/json", **more: str) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **self.server.headers,
            **{name.replace("_", "-"): value for name, value in more.items()},
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _misbehave(self, fault: object, raw: bytes) -> None:
        if fault == RESET:
            # Closing with a linger of 0 s sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif fault == SLOW:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.close_connection = True
            while not self.server.stopping.wait(0.02):
                self.wfile.write(b" ")
        elif fault == HALF:
            body = self.server.answer(raw)[1]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif fault == GARBAGE:
            self._send(200, b'{"choices": [{"text": "half an ans')
        elif fault == PAGE:
            self._send(200, b"<html><body>Log in to the network</body></html>", kind="text/html")
        elif fault == EMPTY:
            self._send(200, b'{"object": "text_completion", "choices": []}')
        elif fault == 429:
            self._send(429, b'{"error": {"message": "slow down"}}', Retry_After=self.server.retry_after)
        else:
            assert isinstance(fault, int)
            self._send(fault, b'{"error": {"message": "injected"}}')


def text_of(prompt: str) -> tuple[str, str]:
    """Return text and reason to finish, by the prompt alone; some texts are empty, some cut by length."""
    chance = random.Random(hashlib.sha256(prompt.encode()).digest())
    kind = chance.random()
    words = " ".join(chance.choice(WORDS) for _ in range(chance.randint(3, 12)))
    if kind < 0.05:
        return "", "stop"
    return (f" {words}", "length") if kind < 0.1 else (f" {words}.", "stop")


def by_rule(raw: bytes) -> Answer:
    """Answer with ``text_of`` the prompt."""
    text, reason = text_of(json.loads(raw)["prompt"])
    choice = {"index": 0, "text": text, "finish_reason": reason, "logprobs": None}
    return 200, json.dumps({"object": "text_completion", "choices": [choice]}).encode()


def passed_on(port: int) -> Callable[[bytes], Answer]:
    """Return an answer rule that asks another server on loopback."""

    def answer(raw: bytes) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("POST", "/v1/completions", raw, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    return answer


def by_chance(share: float, seed: int, faults: Sequence[object] = FAULTS) -> Callable[[str, int], object]:
    """Return a schedule that depends on the prompt and the try alone, so every run meets the same faults."""

    def fault(prompt: str, before: int) -> object:
        chance = random.Random(f"{seed} {before} {prompt}")
        return chance.choice(list(faults)) if chance.random() < share else None

    return fault


def first_tries(fault: object, count: int = 1) -> Callable[[str, int], object]:
    """Return a schedule with one fault in the first tries of every prompt."""
    return lambda prompt, before: fault if before < count else None


@contextmanager
def serving(server: Completions) -> Iterator[Completions]:
    """Run the server while the block runs."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def wait_until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Return as soon as the condition holds.

    Raises:
        TimeoutError: it does not in time.
    """
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("waited in vain")
        time.sleep(0.005)
