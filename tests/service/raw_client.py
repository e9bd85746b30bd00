"""A client that speaks bytes, and the server of both listeners around an application."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from relay.admin.errors import PATHS, errors
from relay.admin.requests import plain_bodies
from relay.admin.server import Connection, Gate, serving
from relay.telemetry import Metrics
from tests.service.admin_api import Api

GET = b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"


class Reply:
    """One answer, read."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
        self.raw = head + body
        self.body = body

    @property
    def problem(self) -> Any:
        """The body, which must be a problem that says what every answer of the API says."""
        assert self.headers["content-type"] == "application/problem+json", self.raw
        assert (self.headers["server"], self.headers["x-content-type-options"]) == ("relay", "nosniff")
        assert self.headers["x-request-id"]
        problem = json.loads(self.body)
        assert problem["status"] == self.status
        return problem


class Raw:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Write without waiting."""
        self.writer.write(data)

    async def reply(self) -> Reply:
        """The next answer; it has a length."""
        async with asyncio.timeout(5):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            return Reply(head[:-4], await self.reader.readexactly(int(length.partition(b":")[2])))

    async def ask(self, data: bytes = GET) -> Reply:
        """Send, and read the answer."""
        self.send(data)
        return await self.reply()

    async def closed(self) -> bytes:
        """Wait until the other side has closed; what came before that."""
        read = bytearray()
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    read += data
        return bytes(read)


class Target:
    """A server under attack."""

    def __init__(self, address: tuple[str, int], metrics: Metrics) -> None:
        self.address = address
        self.metrics = metrics
        self.held = 0
        """Requests that wait for `release`."""
        self.release = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> Raw:
        """Open a connection, which `close` closes."""
        reader, writer = await asyncio.open_connection(*self.address[:2])
        self._writers.append(writer)
        return Raw(reader, writer)

    def refused(self, reason: str) -> float:
        """What the metric says."""
        return self._sample("relay_http_refused_total", reason=reason)

    @property
    def open(self) -> float:
        """How many connections the metric says are open."""
        return self._sample("relay_http_connections")

    async def close(self) -> None:
        """Close what was opened."""
        self.release.set()
        for writer in self._writers:
            writer.transport.abort()

    def _sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, {"listener": "api", **labels}) or 0.0


@asynccontextmanager
async def target(*, connections: int = 50, **limits: float) -> AsyncIterator[Target]:
    """Serve an application with a route for each way to be at work: quick, held, echo, stream, large."""
    metrics = Metrics()
    app = web.Application(middlewares=[errors, plain_bodies])
    app[PATHS] = "see the test"

    async def quick(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def held(_: web.Request) -> web.Response:
        made.held += 1
        await made.release.wait()
        return web.Response(text="held")

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while not made.release.is_set():
            await response.write(b".")
            await asyncio.sleep(0.01)
        return response

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 20_000_000)

    for handler in (quick, held, echo, stream, large):
        app.router.add_route("*", f"/{handler.__name__}", handler)
    async with serving(app, "127.0.0.1", 0, Gate("api", metrics, connections=connections, **limits)) as address:
        made = Target((address[0], address[1]), metrics)
        try:
            yield made
        finally:
            await made.close()


@asynccontextmanager
async def attacked(api: Api) -> AsyncIterator[Target]:
    """The real API, over the real server."""
    runner = api.http.server.runner
    assert runner is not None
    server = runner.server
    assert server is not None
    server.handler_cancellation = False  # as in production; the test server's default differs
    gate = Gate("api", api.metrics, connections=50)
    listening = await asyncio.get_running_loop().create_server(lambda: Connection(server, gate), "127.0.0.1", 0)
    made = Target(listening.sockets[0].getsockname(), api.metrics)
    try:
        yield made
    finally:
        await made.close()
        listening.close()
