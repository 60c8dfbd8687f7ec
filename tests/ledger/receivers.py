"""Services on this machine that notices go to: one that is posted to, and one that takes mail."""

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_string
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Manner = Literal["answers", "hangs", "drips", "drips after its answer"]


@dataclass
class Webhook:
    """What a service was posted, and how it answers: with 200, or with `codes`, one for each post.

    Attributes:
        manner: hangs: says nothing; drips: a byte a second of a header that never ends, or of a body.
    """

    url: str = ""
    got: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    manner: Manner = "answers"
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def texts(self) -> list[str]:
        return [body["text"] for _, body in self.got]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Serve until the end of the body."""
    made = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code = made.codes.pop(0) if made.codes else 200
            if code == 200:
                made.got.append((self.path, body))
            if made.manner == "hangs":
                made.closed.wait(60)
                return
            if made.manner == "drips":
                self.wfile.write(b"HTTP/1.0 200 OK\r\nDate: ")
            else:
                self.send_response(code)
                self.end_headers()
            try:
                while made.manner != "answers" and not made.closed.is_set():
                    self.wfile.write(b".")
                    time.sleep(1)
            except OSError:
                return

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    made.closed.set()
    server.shutdown()
    server.server_close()


@dataclass
class Mailbox:
    """Letters that came in, and the port that they came to."""

    port: int = 0
    letters: list[Message] = field(default_factory=list)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Speak as much SMTP as it takes to be handed letters, until the end of the body."""
    made = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 here")
            while line := self.rfile.readline().decode().strip():
                word = line.split()[0].upper()
                if word == "DATA":
                    self.say("354 go on")
                    made.letters.append(message_from_string(self.letter()))
                    self.say("250 taken")
                elif word == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 well")

        def letter(self) -> str:
            lines = iter(lambda: self.rfile.readline().decode().rstrip("\r\n"), ".")
            return "\n".join(line.removeprefix(".") for line in lines)

        def say(self, words: str) -> None:
            self.wfile.write(f"{words}\r\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        made.port = server.server_address[1]
        yield made
        server.shutdown()
