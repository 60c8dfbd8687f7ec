"""A small S3 on a real socket: ListObjectsV2, HEAD, GET with Range and If-Match, and faults on demand."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class Bucket:
    """What the server holds, what went wrong on purpose, and what it was asked."""

    name: str = "music"
    objects: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)  # instead of the MD5
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)  # key -> cut, garble, 500, whole, in order
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # key, Range
    page: int = 1000
    endpoint: str = ""

    def etag(self, key: str) -> str:
        return self.etags.get(key) or hashlib.md5(self.objects[key], usedforsecurity=False).hexdigest()


@contextmanager
def served(bucket: Bucket) -> Iterator[Bucket]:
    """Serve ``bucket`` on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def error(self, status: int, code: str) -> None:
            self.answer(status, f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode())

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            name, _, key = unquote(url.path).lstrip("/").partition("/")
            if name != bucket.name:
                self.error(404, "NoSuchBucket")
            elif "Authorization" not in self.headers:
                self.error(403, "AccessDenied")
            elif key:
                self.get(key)
            else:
                self.list(parse_qs(url.query))

        def do_HEAD(self) -> None:
            self.do_GET()

        def list(self, query: dict[str, list[str]]) -> None:
            prefix, start = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
            keys = [key for key in sorted(bucket.objects) if key.startswith(prefix) and key > start]
            folders = set()
            if query.get("delimiter") == ["/"]:
                folders = {
                    prefix + key[len(prefix) :].partition("/")[0] + "/" for key in keys if "/" in key[len(prefix) :]
                }
                keys = [key for key in keys if "/" not in key[len(prefix) :]]
            page, more = keys[: bucket.page], len(keys) > bucket.page
            rows = "".join(
                f'<Contents><Key>{escape(key)}</Key><ETag>"{bucket.etag(key)}"</ETag>'
                f"<Size>{len(bucket.objects[key])}</Size></Contents>"
                for key in page
            )
            rows += "".join(
                f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in sorted(folders)
            )
            token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
            truncated = str(more).lower()
            text = f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{token}{rows}</ListBucketResult>"
            self.answer(200, text.encode(), {"Content-Type": "application/xml"})

        def get(self, key: str) -> None:
            bucket.asked.append((key, self.headers.get("Range")))
            if key not in bucket.objects:
                return self.error(404, "NoSuchKey")
            if self.headers.get("If-Match", f'"{bucket.etag(key)}"') != f'"{bucket.etag(key)}"':
                return self.error(412, "PreconditionFailed")
            fault = bucket.faults[key].pop(0) if bucket.faults.get(key) else ""
            if fault == "500":
                return self.error(500, "InternalError")
            body, status = bucket.objects[key], 200
            headers = {"ETag": f'"{bucket.etag(key)}"', **bucket.headers.get(key, {})}
            span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if span and fault != "whole":
                first = int(span[1])
                headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
                body, status = body[first:], 206
            if fault == "garble":
                body = bytes(len(body))
            if fault == "cut":
                headers["Content-Length"] = str(len(body))
                self.answer(status, body[: len(body) // 2], headers)
                self.close_connection = True
                self.connection.close()
                return None
            return self.answer(status, body, headers)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    bucket.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
