"""A server that speaks bytes, so that tests can misbehave in every way that a subscriber can."""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from relay.core.addresses import Network
from relay.egress import GuardedResolver, Sender

LOOPBACK: Final[tuple[Network, ...]] = (ipaddress.ip_network("127.0.0.0/8"),)
OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

Behaviour = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> tuple[bytes, bytes]:
        """Read one request: its head and its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        return head, await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        """Write and flush."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed, whatever else it still sends."""
        while await self.reader.read(65536):
            pass

    def reset(self) -> None:
        """Close without any goodbye (a TCP reset)."""
        self.writer.transport.abort()


class RawServer:
    """Counts connections and requests, and tells when each connection ended."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.url = ""
        self.connections = 0
        self.ended = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, ssl.SSLError):
                await self._behaviour(Peer(reader, writer))
        finally:
            self.ended += 1
            self._tasks.discard(task)
            writer.transport.abort()

    async def stop(self) -> None:
        """End what still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def serving(
    behaviour: Behaviour, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[RawServer]:
    """Run `behaviour` for each connection to `server.url`."""
    raw = RawServer(behaviour)
    server = await asyncio.start_server(raw.accept, "127.0.0.1", 0, ssl=tls, limit=2**20)
    raw.url = f"{'https' if tls else 'http'}://{host}:{server.sockets[0].getsockname()[1]}/hooks?key=hunter2"
    try:
        yield raw
    finally:
        server.close()
        await raw.stop()
        await server.wait_closed()


def sender(*, resolver: GuardedResolver | None = None, tls: ssl.SSLContext | None = None) -> Sender:
    """Make a sender that may dial loopback over http."""
    return Sender(allow=LOOPBACK, allow_http=True, user_agent="relay/test", resolver=resolver, tls=tls)


def always(answer: bytes) -> Behaviour:
    """Answer every request on a connection with the same bytes."""

    async def behave(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer)

    return behave


def once(answer: bytes) -> Behaviour:
    """Answer one request, then wait until the client leaves."""

    async def behave(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    return behave


async def until(predicate: Callable[[], bool]) -> None:
    """Poll a predicate for at most five seconds."""
    async with asyncio.timeout(5):
        while not predicate():  # noqa: ASYNC110 - what is awaited may be in another thread
            await asyncio.sleep(0.005)
