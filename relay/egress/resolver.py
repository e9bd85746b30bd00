"""Names to addresses, for names that strangers chose: guarded, bounded, and isolated from one another.

`getaddrinfo` cannot be cancelled: a dead name holds its thread until the C library gives up. The invariant: a name
holds at most one thread, and names that were slow once share a few threads of their own until they answer
promptly, so dead names do not take the threads that healthy ones need. Threads are daemons: none delays an exit.
"""

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

from relay.core.addresses import Network, classify

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
Lookup = Callable[[str], Sequence[AddressInfo]]

_MAX_REMEMBERED: Final = 10_000


class AddressBlockedError(OSError):
    """The egress guard refused an address; an OSError, so that aiohttp closes and wraps what it must."""


class LookupFailedError(OSError):
    """A name could not be resolved in time or at all."""


def system_lookup(host: str) -> Sequence[AddressInfo]:
    """Ask the C library; blocks."""
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)


def check_address(sockaddr: Sequence[Any], allow: Sequence[Network]) -> None:
    """Refuse a socket address that may not be dialled; raises `AddressBlockedError`."""
    host, scope_id = sockaddr[0], sockaddr[3] if len(sockaddr) > 3 else 0  # noqa: PLR2004 - IPv6 has four
    reason = classify(host, allow) or ("has a scope id" if scope_id else None)
    if reason:
        raise AddressBlockedError(f"the address {host} {reason}")


class _Query:
    """One look-up of one name, shared by everybody who asks for it meanwhile."""

    def __init__(self, host: str, loop: asyncio.AbstractEventLoop) -> None:
        self.host = host
        self.answer: asyncio.Future[Sequence[AddressInfo]] = loop.create_future()
        self.started_at: float | None = None
        self.waiting = 1


class _Lane:
    """At most `threads` look-ups at once; the rest wait in order."""

    def __init__(self, threads: int, lookup: Lookup, done: Callable[[_Query], None]) -> None:
        self._free = threads
        self._lookup = lookup
        self._done = done
        self._queue: deque[_Query] = deque()

    def submit(self, query: _Query) -> None:
        self._queue.append(query)
        self._start_next()

    def _start_next(self) -> None:
        while self._free and self._queue:
            query = self._queue.popleft()
            if not query.waiting:  # everybody gave up while it stood in the queue
                query.answer.cancel()
                self._done(query)
                continue
            self._free -= 1
            self._start(query, asyncio.get_running_loop())

    def _start(self, query: _Query, loop: asyncio.AbstractEventLoop) -> None:
        query.started_at = loop.time()
        thread = threading.Thread(target=self._run, args=(query, loop), name="relay-dns", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the machine gives no more threads
            loop.call_soon(self._finish, query, ())

    def _run(self, query: _Query, loop: asyncio.AbstractEventLoop) -> None:
        """Runs in the thread; whatever the look-up raises is this name's failure."""
        answer: Sequence[AddressInfo] = ()
        with contextlib.suppress(OSError, UnicodeError):
            answer = self._lookup(query.host)
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(self._finish, query, answer)

    def _finish(self, query: _Query, answer: Sequence[AddressInfo]) -> None:
        self._free += 1
        query.answer.set_result(answer)
        self._done(query)
        self._start_next()


class GuardedResolver(AbstractResolver):
    """aiohttp's resolver interface: refuses a name if any of its answers is refused.

    `patience_s` bounds one look-up for one caller; a look-up that takes `slow_s` puts its name into the slow lane
    for the next time. Answers are kept for `ttl_s`, which `getaddrinfo` does not tell.
    """

    def __init__(
        self,
        allow: Sequence[Network] = (),
        *,
        lookup: Lookup = system_lookup,
        patience_s: float = 5.0,
        slow_s: float = 1.0,
        ttl_s: float = 10.0,
        threads: int = 64,
        slow_threads: int = 8,
    ) -> None:
        self._allow = tuple(allow)
        self._patience_s = patience_s
        self._slow_s = slow_s
        self._ttl_s = ttl_s
        self._lane = _Lane(threads, lookup, self._done)
        self._slow_lane = _Lane(slow_threads, lookup, self._done)
        self._running: dict[str, _Query] = {}
        self._slow: set[str] = set()
        self._known: dict[str, tuple[float, Sequence[AddressInfo]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of `host`, every one of them allowed.

        Raises `AddressBlockedError` or `LookupFailedError`.
        """
        answer = [info for info in await self._ask(host) if family in (socket.AF_UNSPEC, info[0])]
        if not answer:
            raise LookupFailedError("the name does not resolve")
        for info in answer:
            check_address(info[4], self._allow)
        return [
            ResolveResult(
                hostname=host,
                host=info[4][0],
                port=port,
                family=info[0],
                proto=info[2],
                flags=socket.AI_NUMERICHOST,
            )
            for info in answer
        ]

    async def close(self) -> None:
        """Nothing to release: threads end by themselves."""

    async def _ask(self, host: str) -> Sequence[AddressInfo]:
        known = self._known.get(host)
        if known and asyncio.get_running_loop().time() < known[0]:
            return known[1]
        query = self._join(host)
        try:
            # Not wait_for: the answer is shared, so giving up must not cancel it.
            await asyncio.wait((query.answer,), timeout=self._patience_s)
        finally:
            query.waiting -= 1
        if query.answer.done():
            return query.answer.result()
        self._judge(query)
        raise LookupFailedError("the name was not resolved in time")

    def _join(self, host: str) -> _Query:
        """Wait along with a look-up that runs already, or begin one."""
        if query := self._running.get(host):
            query.waiting += 1
            return query
        query = self._running[host] = _Query(host, asyncio.get_running_loop())
        (self._slow_lane if host in self._slow else self._lane).submit(query)
        return query

    def _done(self, query: _Query) -> None:
        """Runs on the loop when a look-up has ended, in time or not."""
        del self._running[query.host]
        self._judge(query)
        if query.answer.cancelled() or not (answer := query.answer.result()):
            return
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        self._known[query.host] = (asyncio.get_running_loop().time() + self._ttl_s, answer)

    def _judge(self, query: _Query) -> None:
        """Remember whether the name is slow; waiting in a queue is not its fault."""
        if query.started_at is None:
            return
        if asyncio.get_running_loop().time() - query.started_at < self._slow_s:
            self._slow.discard(query.host)
            return
        if len(self._slow) >= _MAX_REMEMBERED:
            self._slow.clear()
        self._slow.add(query.host)
