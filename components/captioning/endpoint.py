"""``kind: endpoint``: a language model behind any OpenAI-compatible completions server, such as vLLM."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread

from components.captioning.completion import ERROR, Completion, Request
from components.captioning.endpoint_exchange import Exchange, Server
from components.captioning.endpoint_format import FORMAT_VERSION
from components.captioning.params import EndpointParams

log = logging.getLogger(__name__)

_PROBE = Request("", 0, prefix="", suffix="Music", temperature=0, top_p=1, seed=0, max_new_tokens=1)

_Arrival = Completion | Exception | None


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
        """See ``LanguageModel``. Without the address: a server that moves changes no answer."""
        return f"endpoint-{FORMAT_VERSION}:{self._params.model}@{self._params.revision}"

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
