"""Requests to a server: bounded concurrency, time-outs, and retries of what can succeed.

Every failure has a kind, so that a rate limit or a broken server is counted and reported for what
it is and never becomes an answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

from automix_eval.backends.servers.faults import (
    CONTENT_FILTER,
    FailedRequests,
    RequestError,
    classify,
    read_json,
)
from automix_eval.safety.logs import harmless
from automix_eval.safety.redaction import scrub, scrub_values, without_credentials

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from tenacity import RetryCallState

log = logging.getLogger(__name__)

_FIRST_WAIT = 1.0
_LONGEST_WAIT = 60.0
_STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's answer.

    Attributes:
        body: The JSON object; None where a content filter refused the prompt.
        seconds: Wall time of the successful attempt, shared with the requests in flight beside it,
            so that the sum over requests is the time the server was busy for this run.
        events: One ``retry:<kind>`` for each attempt that failed before.
        latency: Wall time of the successful attempt, all of it; None where there was none.
    """

    body: Mapping[str, Any] | None
    seconds: float
    events: tuple[str, ...] = ()
    latency: float | None = None


Send = Callable[["ClientSession", Any], Awaitable[Mapping[str, Any]]]
Check = Callable[[Mapping[str, Any]], None]


class Transport:
    """Sends payloads, a bounded number at a time.

    Neighbours in the given order may share a beginning, which a server reads once if the second
    comes after the first. So what is in flight at once is taken from different parts of the order.

    Args:
        send: Sends one payload within a session; raises :class:`RequestError`.
        check: Raises :class:`RequestError` for a reply that lacks what every answer has.
        concurrency: Most requests in flight.
        max_retries: Attempts after the first one that failed.
        timeout: Seconds an attempt may take in all.
        tls: What aiohttp takes as ``ssl``: True, False, or a context.
    """

    def __init__(
        self,
        send: Send,
        check: Check,
        *,
        concurrency: int = 1,
        max_retries: int = 6,
        timeout: float = 300.0,
        tls: bool | ssl.SSLContext = True,
    ) -> None:
        self._send = send
        self._check = check
        self._concurrency = max(1, concurrency)
        self._max_retries = max(0, max_retries)
        self._timeout = timeout
        self._tls = tls

    def run(
        self,
        payloads: Sequence[Any],
        on_reply: Callable[[int, Reply], None],
        failed: FailedRequests | None = None,
    ) -> None:
        """Send every payload; each reply is handed over, in this thread, as soon as it exists.

        The requests run in a thread of their own, so this works inside a notebook's event loop. A
        reply counts as in flight until ``on_reply`` has returned: where keeping it takes long, no
        more than ``concurrency`` answered requests can be lost.

        Args:
            payloads: What to send.
            on_reply: Receives the index of a payload and its reply.
            failed: Takes the failures and says when they are enough: nothing new is sent then,
                and requests in flight are finished and handed over. None: the first is enough.

        Raises:
            RequestError: A request failed for good, and there is nobody to take it.
        """
        inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        taken = failed or FailedRequests()
        batch = _Batch(self, payloads, inbox.put, taken)
        thread = threading.Thread(target=batch.drive, name="automix-requests", daemon=True)
        thread.start()
        failure: BaseException | None = None
        try:
            while (item := inbox.get()) is not None:
                if isinstance(item, BaseException):
                    failure = failure or item
                    continue
                index, reply, kept = item
                try:
                    on_reply(index, reply)
                except RequestError as err:  # a reply that answers something else
                    if not taken.tolerate(index, err):
                        batch.stop()
                batch.tell(kept)
        finally:
            batch.cancel()
            thread.join()
        if failure is not None:
            raise failure
        if failed is None and taken.errors:
            raise next(iter(taken.errors.values()))


class _Batch:
    """One call of :meth:`Transport.run`."""

    def __init__(
        self,
        transport: Transport,
        payloads: Sequence[Any],
        put: Callable[[Any], None],
        failed: FailedRequests,
    ) -> None:
        self._t = transport
        self._payloads = payloads
        self._put = put
        self._failed = failed
        self._next = iter(_spread(len(payloads), transport._concurrency))
        self._stopped = threading.Event()
        self._resume_at = 0.0
        self._clock = _SharedClock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def drive(self) -> None:
        """The thread's work: all requests, then a None into the inbox."""
        try:
            asyncio.run(self._all())
        except asyncio.CancelledError:
            pass  # the caller's thread cancelled us and knows why
        except BaseException as err:  # noqa: BLE001  handed over to the caller's thread
            self._put(err)
        finally:
            self._put(None)

    def stop(self) -> None:
        """Send nothing new; what is in flight is finished."""
        self._stopped.set()

    def tell(self, kept: asyncio.Event) -> None:
        """Let the worker go on that waits until its reply is kept."""
        self._in_loop(kept.set)

    def cancel(self) -> None:
        """Abandon what is still in flight; without effect once everything is done."""
        self._stopped.set()
        if self._task is not None:
            self._in_loop(self._task.cancel)

    def _in_loop(self, call: Callable[[], object]) -> None:
        """Call in the requests' thread, which may have ended."""
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(call)
            except RuntimeError as err:  # closed in the meantime: there is nobody to tell
                log.debug("the requests' loop is closed already: %s", err)

    async def _all(self) -> None:
        from aiohttp import ClientSession, ClientTimeout, TCPConnector

        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        workers = min(self._t._concurrency, len(self._payloads))
        async with ClientSession(
            connector=TCPConnector(limit=workers, ssl=self._t._tls),
            timeout=ClientTimeout(total=self._t._timeout),
            trust_env=_environment_speaks(),
        ) as session:
            await asyncio.gather(*(self._work(session) for _ in range(workers)))

    async def _work(self, session: ClientSession) -> None:
        for index in self._next:
            if self._stopped.is_set():
                return
            if self._failed.lost(index):
                continue
            try:
                reply = await self._attempts(session, self._payloads[index])
            except RequestError as failure:
                if self._cut_short(failure):
                    return
                if not self._failed.tolerate(index, failure):
                    self.stop()
                    return
                continue
            self._failed.answered()
            kept = asyncio.Event()
            self._put((index, reply, kept))
            await kept.wait()

    def _cut_short(self, failure: RequestError) -> bool:
        """Whether a request ended for another one's sake, and might have succeeded."""
        unfinished = failure.retried and failure.attempts <= self._t._max_retries
        return self._stopped.is_set() and (failure.kind == _STOPPED or unfinished)

    async def _attempts(self, session: ClientSession, payload: Any) -> Reply:
        from tenacity import (
            AsyncRetrying,
            retry_if_exception,
            stop_after_attempt,
            stop_when_event_set,
        )

        failed: list[str] = []
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda e: isinstance(e, RequestError) and e.retried),
            stop=stop_after_attempt(self._t._max_retries + 1) | stop_when_event_set(self._stopped),
            wait=_wait,
            sleep=self._nap,
            before_sleep=_announce,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    try:
                        body, seconds, latency = await self._attempt(session, payload)
                    except RequestError as failure:
                        failed.append(f"retry:{failure.kind}")
                        failure.attempts = len(failed)
                        raise
        except RequestError as failure:
            if failure.kind != CONTENT_FILTER:
                raise
            return Reply(None, 0.0, tuple(failed[:-1]))
        return Reply(body, seconds, tuple(failed), latency)

    async def _attempt(
        self, session: ClientSession, payload: Any
    ) -> tuple[Mapping[str, Any], float, float]:
        import aiohttp

        # one request's Retry-After holds back all
        await self._nap(self._resume_at - time.monotonic())
        if self._stopped.is_set():
            raise RequestError(_STOPPED, "another request failed for good", retried=False)
        mark, begun = self._clock.start(), time.perf_counter()
        try:
            body = await self._t._send(session, payload)
            latency = time.perf_counter() - begun
            self._t._check(body)
        except RequestError as failure:
            if failure.retry_after is not None and failure.retried:
                self._resume_at = max(self._resume_at, time.monotonic() + failure.retry_after)
            raise
        except (aiohttp.ClientSSLError, aiohttp.InvalidURL) as err:
            raise RequestError("connection", f"{type(err).__name__}: {err}", retried=False) from err
        except (asyncio.TimeoutError, TimeoutError) as err:  # one and the same from Python 3.11 on
            text = f"no complete answer within {self._t._timeout:g} s"
            raise RequestError("timeout", text, retried=True) from err
        except aiohttp.ClientPayloadError as err:
            text = f"the connection broke in the middle of an answer ({' '.join(str(err).split())})"
            raise RequestError("dropped", text, retried=True) from err
        except (aiohttp.ClientError, OSError) as err:
            raise RequestError("connection", f"{type(err).__name__}: {err}", retried=True) from err
        finally:
            seconds = self._clock.stop(mark)
        return body, seconds, latency

    async def _nap(self, seconds: float) -> None:
        """Sleep, but no longer than until the batch stops."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopped.is_set():
            await asyncio.sleep(min(left, 0.2))


def _environment_speaks() -> bool:
    """Whether it names a proxy or a file of passwords; aiohttp asks it in two threads a request."""
    netrc = os.environ.get("NETRC") or ("~/_netrc" if os.name == "nt" else "~/.netrc")
    return bool(getproxies()) or Path(netrc).expanduser().exists()


def _spread(number: int, lanes: int) -> list[int]:
    """0 .. number - 1, going round as many runs of neighbours as there are lanes."""
    length = -(-number // lanes)
    return [i for step in range(length) for i in range(step, number, length)]


class _SharedClock:
    """Splits each moment evenly among the requests in flight: shares add up to the busy time."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._share = 0.0
        self._seen = time.perf_counter()

    def start(self) -> float:
        """A request begins; its mark is for :meth:`stop`."""
        self._advance()
        self._in_flight += 1
        return self._share

    def stop(self, mark: float) -> float:
        """A request ends: its share of the seconds since its mark."""
        self._advance()
        self._in_flight -= 1
        return self._share - mark

    def _advance(self) -> None:
        now = time.perf_counter()
        if self._in_flight:
            self._share += (now - self._seen) / self._in_flight
        self._seen = now


def post(url: str, headers: Mapping[str, str]) -> Send:
    """A sender that posts JSON to one address."""

    async def send(session: ClientSession, payload: Any) -> Mapping[str, Any]:
        async with session.post(
            url, json=payload, headers=dict(headers), allow_redirects=False
        ) as response:
            _acknowledge(response)
            text = _without_secrets(await response.text(errors="replace"))
            if 300 <= response.status < 400:
                raise _redirected(response.status, response.headers.get("Location", ""))
            if not response.ok:
                raise classify(response.status, text, response.headers)
        return read_json(text)

    return send


def _acknowledge(response: ClientResponse) -> None:
    """Acknowledge a reply's head at once.

    A server that sends head and body apart, as Python's own does, waits with the body for that, and
    Linux would take its 40 ms.
    """
    connection = response.connection
    if connection is None or connection.transport is None or not hasattr(socket, "TCP_QUICKACK"):
        return
    if (own := connection.transport.get_extra_info("socket")) is not None:
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def through_litellm(lm: Any) -> Send:
    """A sender that leaves provider and key to LiteLLM, and retries to us."""

    async def send(_session: ClientSession, payload: Any) -> Mapping[str, Any]:
        try:
            response = await lm._litellm.acompletion(**payload, timeout=lm.timeout, num_retries=0)
        except Exception as err:  # noqa: BLE001  each provider's own; all become one of our kinds
            response = getattr(err, "response", None)
            headers = getattr(response, "headers", None) or {}
            status = int(getattr(err, "status_code", 0) or 500)
            raise classify(status, scrub(str(err)), headers) from harmless(err)
        body: Mapping[str, Any] = scrub_values(response.model_dump())
        return body

    return send


def _without_secrets(text: str) -> str:
    """A reply as it may be kept: some servers repeat the key they were sent."""
    clean = scrub(text)
    if clean != text:
        log.warning("a server's reply held a secret of this run; it was blanked")
    return clean


def _redirected(status: int, location: str) -> RequestError:
    # a key is for the address it was given for, and for no other
    place = scrub(without_credentials(location))
    return RequestError(
        f"http_{status}", f"status {status}: it redirects to {place}", retried=False
    )


def _wait(state: RetryCallState) -> float:
    from tenacity import wait_exponential, wait_random

    failure = state.outcome.exception() if state.outcome else None
    if isinstance(failure, RequestError) and failure.retry_after is not None:
        return failure.retry_after
    doubling = wait_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT)
    # workers that failed together do not come back together
    return float(doubling(state)) + float(wait_random(0, _FIRST_WAIT)(state))


def _announce(state: RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0.0
    log.warning(
        "attempt %d failed (%s); the next one in %.1f s", state.attempt_number, failure, wait
    )
