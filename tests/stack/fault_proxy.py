"""Proxies that fail as networks and busy services do: one before an S3 service, one for any server that falls silent."""

import http.client
import random
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

SLOW_DOWN = (
    b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
)
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


class FaultProxy:
    """Forwards each request unchanged, or makes it fail with probability `share`.

    Four faults, equally often: an answer 503 without asking the service; a reset before; a reset after the
    service has done its work (so the client cannot know); a body that breaks off half-way.
    """

    def __init__(self, target: str, share: float, seed: int) -> None:
        self.share = share
        self.requests = 0
        self.faults: dict[str, int] = {"503": 0, "reset before": 0, "reset after": 0, "half a body": 0}
        self._draw = random.Random(seed)
        self._guard = threading.Lock()
        place = urlsplit(target)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def forward(self) -> None:
                body = self._body()
                fault = proxy._next_fault()
                if fault == "503":
                    self._answer(503, [("Content-Type", "application/xml")], SLOW_DOWN)
                    return
                if fault == "reset before":
                    self._reset()
                    return
                status, headers, answer = self._ask(body)
                if fault == "reset after":
                    self._reset()
                elif fault == "half a body" and len(answer) > 1:
                    self._answer(status, headers, answer, len(answer) // 2)
                    self._reset()
                else:
                    self._answer(status, headers, answer)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

            def _body(self) -> bytes:
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    whole = b""
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        whole += self.rfile.read(size)
                        self.rfile.readline()
                    while self.rfile.readline().strip():
                        pass
                    return whole
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                service = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
                try:
                    # The signature covers Host and others: they go on as they came.
                    service.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        if name.lower() not in HOP_BY_HOP | {"content-length", "expect"}:
                            service.putheader(name, value)
                    if body or self.command in ("PUT", "POST"):
                        service.putheader("Content-Length", str(len(body)))
                    service.endheaders(body or None)
                    reply = service.getresponse()
                    return reply.status, reply.getheaders(), reply.read()
                finally:
                    service.close()

            def _answer(
                self, status: int, headers: list[tuple[str, str]], body: bytes, only: int | None = None
            ) -> None:
                self.send_response_only(status)
                length = None
                for name, value in headers:
                    if name.lower() == "content-length":
                        length = value
                    elif name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                # The answer to HEAD tells a length and has no body.
                self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[:only])

            def _reset(self) -> None:
                """Close the connection with RST instead of FIN."""
                self.wfile.flush()
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """Say nothing: clients that go away, and services that are, belong to the test."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """The address to use instead of the service's."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def _next_fault(self) -> str | None:
        with self._guard:
            self.requests += 1
            if self._draw.random() >= self.share:
                return None
            fault = self._draw.choice(list(self.faults))
            self.faults[fault] += 1
            return fault

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


class SilentProxy:
    """Forwards every connection to a server, and can fall silent: all stays open, and nothing passes any more.

    What is sent meanwhile is taken and lost for good, so a connection that was silenced stays of no use: the kernels
    at both ends believe that all is well.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._silent: set[str] = set()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=50)

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        found: int = self._listener.getsockname()[1]
        return found

    def fall_silent(self, *ways: str) -> None:
        """Let nothing pass `to the server`, `to the client`, or, where none is named, either way."""
        self._silent |= set(ways) or {"to the server", "to the client"}

    def speak(self) -> None:
        """Let new connections pass again."""
        self._silent.clear()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self._open.append(client)
        if self._silent:  # taken, and never answered
            return
        server = socket.create_connection(self._target)
        self._open.append(server)
        for source, sink, way in ((client, server, "to the server"), (server, client, "to the client")):
            threading.Thread(target=self._pass_on, args=(source, sink, way), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        lost = False
        try:
            while data := source.recv(65536):
                lost = lost or way in self._silent
                if not lost:
                    sink.sendall(data)
            if not (lost or way in self._silent):  # a goodbye is a message too
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for one in (self._listener, *self._open):
            one.close()
