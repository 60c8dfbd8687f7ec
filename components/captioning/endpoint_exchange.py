"""One prompt, one answer over HTTP: tries, deadlines, and what is whose fault."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from components.captioning.completion import ERROR, Completion, Request
from components.captioning.endpoint_format import FormatError, answer_in, body_of
from components.captioning.endpoint_pause import pause_s, retry_after_s
from components.captioning.params import EndpointParams

if TYPE_CHECKING:
    import httpx

_AGAIN = frozenset({408, 409, 429})  # and 5xx
_REFUSED = frozenset({400, 413, 422})  # this prompt, not the others
_CONNECT_S = 10.0
_MAX_BYTES = 4 * 2**20  # of a response; an answer has a few hundred
_MAX_WORDS = 200  # of a server's words in a message, in characters


class Fault(Exception):
    """A try that brought no answer; another one may."""

    def __init__(self, detail: str, retry_after_s: float | None = None) -> None:
        """Keep what happened, and the pause that the server asks for, if it does."""
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Refusal(Exception):
    """The server will not answer this prompt, however often it is asked."""


@dataclass(frozen=True)
class Server:
    """Where requests go."""

    url: str
    shown: str  # for messages: without the query, which may hold secrets

    @classmethod
    def of(cls, params: EndpointParams) -> Self:
        """Return the address of completions under ``params.url``.

        Raises:
            ValueError: it is no address, or holds a password.
        """
        import httpx

        try:
            base = httpx.URL(params.url)
            url = base.copy_with(path=base.path.rstrip("/") + "/completions")
            if not url.host:
                raise httpx.InvalidURL("no host")
        except httpx.InvalidURL as error:
            raise ValueError(f"captioning.url is no address: {error}") from None
        if url.userinfo:
            raise ValueError(
                "captioning.url holds a user or a password, and params are kept with every run; "
                f"put a key into the environment variable {params.key_variable} instead"
            )
        return cls(str(url), str(url.copy_with(query=None, fragment=None)))


class Exchange:
    """Asks a server for completions, each request as often as the params allow."""

    def __init__(self, server: Server, params: EndpointParams, key: str) -> None:
        """Take the key, which is sent to the server and told to nobody else.

        Raises:
            ValueError: the key cannot be sent.
        """
        key = key.strip()
        if not (key.isascii() and (key.isprintable() or not key)) or " " in key:
            raise ValueError(
                f"the key in the environment variable {params.key_variable} has characters no key can have"
            )
        self.server, self.repeated = server, 0
        self._params, self._key = params, key
        # A client with one connection per request under way, instead of one client with many: the
        # connection pool of httpx looks through all connections for each request.
        self._clients: list[httpx.AsyncClient] = []
        self._idle: list[httpx.AsyncClient] = []

    async def __aenter__(self) -> Self:
        """Read the certificates; connections are opened as they are needed."""
        import httpx

        self._certificates = httpx.create_ssl_context()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()

    def _client(self) -> "httpx.AsyncClient":
        import httpx

        seconds = self._params.timeout_s
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        client = httpx.AsyncClient(
            headers=headers,
            verify=self._certificates,
            timeout=httpx.Timeout(seconds, connect=min(seconds, _CONNECT_S)),
            limits=httpx.Limits(max_connections=1),
            follow_redirects=False,  # the key is for this server only
        )
        self._clients.append(client)
        return client

    async def complete(self, request: Request) -> Completion:
        """Return the server's completion, or an "error" completion when all tries have failed.

        Raises:
            ValueError: the server's answer concerns every request: a wrong key, address or model.
        """
        body = body_of(self._params.model, request)
        tries = self._params.retries + 1
        for number in range(tries):
            try:
                text, finish = await self._try(body)
                return Completion(request, text, finish)
            except Refusal as refusal:
                return Completion(request, "", ERROR, str(refusal))
            except Fault as fault:
                detail = f"{fault} (tried {tries} times)" if tries > 1 else str(fault)
                if number + 1 < tries:
                    self.repeated += 1
                    await asyncio.sleep(pause_s(number, fault.retry_after_s, self._params.longest_wait_s))
        return Completion(request, "", ERROR, detail)

    async def _try(self, body: bytes) -> tuple[str, str]:
        import httpx

        client = self._idle.pop() if self._idle else self._client()
        try:
            # One deadline over all of it: a body that drips keeps every single read in time.
            async with asyncio.timeout(self._params.timeout_s):
                async with client.stream("POST", self.server.url, content=body) as response:
                    received = await _received(response)
        except (TimeoutError, httpx.TimeoutException) as error:
            connecting = "no connection" if isinstance(error, httpx.ConnectTimeout) else "no whole answer"
            raise Fault(f"{connecting} within {self._params.timeout_s:g} s") from None
        except (httpx.RequestError, OSError) as error:
            raise Fault(self._one_line(f"{type(error).__name__}: {error}".encode())) from None
        finally:
            self._idle.append(client)
        status, headers = response.status_code, response.headers
        if 200 <= status < 300:
            try:
                return answer_in(received)
            except FormatError as error:
                raise Fault(f"{error}: {self._one_line(received)!r}") from None
        said = f"{status} {self._one_line(received)}".strip()
        if status in _AGAIN or status >= 500:
            raise Fault(said, retry_after_s(headers.get("Retry-After", ""), datetime.now(UTC)))
        if status in _REFUSED:
            raise Refusal(said)
        raise ValueError(self._misdirected(status, said, headers.get("Location", "")))

    def _misdirected(self, status: int, said: str, location: str) -> str:
        """Return the one line about an answer that every other request would get too."""
        server = f"captioning.url: {self.server.shown}"
        if 300 <= status < 400:
            where = self._one_line(location.partition("?")[0].encode())
            return f"{server} answered {status}, a redirect to {where!r}; redirects are not followed: name the final address"
        variable = self._params.key_variable
        key = f"the key of the environment variable {variable}" if self._key else f"no key, as {variable} is not set"
        if status in (401, 403):  # what the server says may repeat a part of the key
            return f"{server} answered {status} to {key}; set {variable} to one that may use {self._params.model!r}"
        return (
            f"{server} answered {said!r} to {key}; check captioning.url (ends before /completions) and captioning.model"
        )

    def _one_line(self, said: bytes) -> str:
        """Return the beginning of a server's words, fit for a terminal and without the key."""
        text = said.decode("utf-8", "replace")
        if self._key:
            text = text.replace(self._key, "***")
        return " ".join("".join(letter if letter.isprintable() else " " for letter in text[:2000]).split())[:_MAX_WORDS]


async def _received(response: "httpx.Response") -> bytes:
    parts = bytearray()
    async for part in response.aiter_bytes():
        parts += part
        if len(parts) > _MAX_BYTES:
            raise Fault(f"a response of more than {_MAX_BYTES // 2**20} MiB")
    return bytes(parts)
