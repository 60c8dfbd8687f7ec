"""``kind: endpoint``: a language model behind any OpenAI-compatible completions server, such as vLLM.

``Exchange`` is one prompt and one answer over HTTP: tries, deadlines, and what is whose fault. ``Endpoint`` has
many of them under way.
"""

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Self

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from components.captioning.completion import ERROR, Completion, Request
from components.captioning.endpoint_format import FormatError, answer_in, body_of
from components.captioning.params import EndpointParams
from components.code import code_digest

log = logging.getLogger(__name__)

_AGAIN = frozenset({408, 409, 429})  # and 5xx
_REFUSED = frozenset({400, 413, 422})  # this prompt, not the others
_CONNECT_S = 10.0
_MAX_BYTES = 4 * 2**20  # of a response; an answer has a few hundred
_MAX_WORDS = 200  # of a server's words in a message, in characters
_FIRST_PAUSE_S = 0.5  # the longest after the first try
_PROBE = Request("", 0, prefix="", suffix="Music", temperature=0, top_p=1, seed=0, max_new_tokens=1)

_Arrival = Completion | Exception | None


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
        self._certificates = httpx.create_ssl_context()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()

    def _client(self) -> httpx.AsyncClient:
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
        tries = self._params.retries + 1
        trying = AsyncRetrying(  # one for each request: it keeps count of its tries
            retry=retry_if_exception_type(Fault),
            stop=stop_after_attempt(tries),
            wait=pauses(self._params.longest_wait_s),
            sleep=asyncio.sleep,
            before_sleep=self._count,
            reraise=True,
        )
        try:
            answered: tuple[str, str] = await trying(self._try, body_of(self._params.model, request))
        except Refusal as refusal:
            return Completion(request, "", ERROR, str(refusal))
        except Fault as fault:
            return Completion(request, "", ERROR, f"{fault} (tried {tries} times)" if tries > 1 else str(fault))
        return Completion(request, *answered)

    def _count(self, state: RetryCallState) -> None:
        self.repeated += 1

    async def _try(self, body: bytes) -> tuple[str, str]:
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


async def _received(response: httpx.Response) -> bytes:
    parts = bytearray()
    async for part in response.aiter_bytes():
        parts += part
        if len(parts) > _MAX_BYTES:
            raise Fault(f"a response of more than {_MAX_BYTES // 2**20} MiB")
    return bytes(parts)


def pauses(longest_s: float) -> Callable[[RetryCallState], float]:
    """Return what tells the pause after a try that brought no answer, in seconds.

    Without a wish of the server's: exponential back-off with full jitter, any time up to a limit
    that doubles (M. Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015). With
    one: at least that, yet never longer than ``longest_s``.
    """
    jitter = wait_random_exponential(multiplier=_FIRST_PAUSE_S, max=longest_s)

    def pause_s(state: RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        wish_s = fault.retry_after_s if isinstance(fault, Fault) else None
        return jitter(state) if wish_s is None else min(longest_s, wish_s + jitter(state))

    return pause_s


def retry_after_s(value: str, now: datetime) -> float | None:
    """Return a Retry-After header (RFC 9110, section 10.2.3: seconds or a date) in seconds from ``now``.

    None where it is neither.
    """
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None


class Endpoint:
    """See ``LanguageModel``. At most ``concurrency`` requests are under way or not yet taken by the caller.

    So a caller that writes each completion down before it asks for the next one can lose no more
    than ``concurrency`` answers, however it ends.
    """

    def __init__(self, params: EndpointParams) -> None:
        """Ask nothing yet; the key is looked up when the first completion is asked for.

        Raises:
            ValueError: ``url`` is no address.
        """
        self._params = params
        self._server = Server.of(params)

    @property
    def identity(self) -> str:
        """See ``LanguageModel``. Without the address: a server that moves changes no answer.

        Of the code, what is sent and what is read in an answer counts: all else leaves paid answers as they are.
        """
        return f"endpoint-{code_digest(body_of, answer_in, packages=False)[:12]}:{self._params.model}@{self._params.revision}"

    def tokens(self, text: str) -> list[int] | None:
        """Return None: only the server knows its tokenizer."""
        return None

    def shared_tokens(self, requests: Sequence[Request]) -> tuple[int, int, int] | None:
        """Return None, for the same reason."""
        return None

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """See ``LanguageModel``. Closing the iterator hangs up on all that is under way.

        Requests run in an event loop in a thread of its own, so that deadlines hold while the
        caller is busy.

        Raises:
            ValueError: the server does not answer at all, refuses the key, or is not one for completions.
        """
        if not requests:
            return
        exchange = Exchange(self._server, self._params, os.environ.get(self._params.key_variable, ""))
        arrived: SimpleQueue[_Arrival] = SimpleQueue()
        slots = asyncio.Semaphore(self._params.concurrency)
        loop = asyncio.new_event_loop()
        work = loop.create_task(_ask(exchange, requests, slots, self._params.concurrency, arrived.put))
        thread = Thread(target=_run, args=(loop, work, arrived.put), name="captioning-endpoint", daemon=True)
        try:
            thread.start()
            while (item := _next(arrived)) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
                _tell(loop, slots.release)  # only now has the caller put it away
        finally:
            _tell(loop, work.cancel)
            if thread.is_alive():
                thread.join()
            if exchange.repeated:
                log.info("captioning: %s: %d requests sent again", self._server.shown, exchange.repeated)


async def _ask(
    exchange: Exchange,
    requests: Sequence[Request],
    slots: asyncio.Semaphore,
    concurrency: int,
    deliver: Callable[[Completion], None],
) -> None:
    """Send every request, each in a slot of its own, and deliver completions as they come."""
    silent = 0  # failures since the last answer

    async def one(request: Request) -> None:
        nonlocal silent
        completion = await exchange.complete(request)
        silent = silent + 1 if completion.finish == ERROR else 0
        if silent >= min(concurrency, len(requests)):
            # Is it these prompts or the server? A million of them need not be tried to know.
            silent = 0
            await _probe(exchange)
        deliver(completion)

    async with exchange, asyncio.TaskGroup() as group:
        for request in requests:
            await slots.acquire()
            group.create_task(one(request))


async def _probe(exchange: Exchange) -> None:
    """Ask for one token after a word.

    Raises:
        ValueError: not even that is answered.
    """
    completion = await exchange.complete(_PROBE)
    if completion.finish == ERROR:
        raise ValueError(
            f"captioning.url: {exchange.server.shown} does not answer, not even one word: {completion.detail}; "
            "what it has answered is kept, run again when it is up"
        )


def _next(arrived: "SimpleQueue[_Arrival]") -> _Arrival:
    """Return what arrives next. An endless wait could miss a Ctrl-C that comes just as it begins."""
    while True:
        with contextlib.suppress(Empty):
            return arrived.get(timeout=1.0)


def _run(loop: asyncio.AbstractEventLoop, work: "asyncio.Task[None]", deliver: Callable[[_Arrival], None]) -> None:
    """Run the loop until the work is done or cancelled; deliver its error, if any, then None."""
    try:
        loop.run_until_complete(work)
    except asyncio.CancelledError:
        pass
    except ExceptionGroup as group:
        deliver(group.exceptions[0])
    except Exception as error:  # for the caller's thread: it would be lost in this one
        deliver(error)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        deliver(None)


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended: there is nobody left to tell
        loop.call_soon_threadsafe(what)
