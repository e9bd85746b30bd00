"""The exchange that both upstream clients share: bounded in time and bytes, faults by type, an honest pace."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from aiohttp.pytest_plugin import AiohttpServer

from relay.core.errors import FetchError
from relay.sources.http import THREAD_ABOVE, Answer, Pacer, decode, fetch, retry_after_s, shared_pacer

NOW = datetime(2026, 11, 21, 17, 0, tzinfo=UTC)
SECRET = "SECRET-KEY"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def ask(url: str, *, timeout_s: float = 5, cap: int = 100_000) -> Answer:
    """Fetch with a session of its own."""
    async with aiohttp.ClientSession() as session:
        return await fetch(session, "GET", url, headers={"api_key": SECRET}, timeout_s=timeout_s, cap=cap)


async def fault_of(url: str, *, timeout_s: float = 5) -> FetchError:
    """Fetch what must fail; nothing of the request may hang on the exception."""
    with pytest.raises(FetchError) as caught:
        await ask(url, timeout_s=timeout_s)
    assert SECRET not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


@pytest.fixture
def serve(aiohttp_server: AiohttpServer) -> Callable[[Handler], Awaitable[str]]:
    """Serve one handler and return its URL."""

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_get("/", handler)
        server = await aiohttp_server(app)
        return str(server.make_url("/"))

    return start


Serve = Callable[[Handler], Awaitable[str]]


async def endless(request: web.Request) -> web.StreamResponse:
    """Send blanks for ever."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def dripping(request: web.Request) -> web.StreamResponse:
    """Send a blank now and then, for ever."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


async def large(_: web.Request) -> web.Response:
    """Announce and send more than the cap."""
    return web.Response(body=b" " * 200_000)


async def inflating(_: web.Request) -> web.Response:
    """Send little that becomes much."""
    response = web.Response(body=b" " * 5_000_000)
    response.enable_compression(web.ContentCoding.gzip)
    return response


async def silent(_: web.Request) -> web.Response:
    """Say nothing for a while."""
    await asyncio.sleep(0.2)
    return web.Response()


@pytest.mark.parametrize("handler", [endless, large, inflating])
async def test_a_large_body_is_cut_at_the_cap(serve: Serve, handler: Handler) -> None:
    """Announced, endless or compressed: nothing is kept past the cap."""
    assert (await fault_of(await serve(handler))).reason == "too_large"


@pytest.mark.parametrize("handler", [silent, dripping])
async def test_silence_and_drips_end_at_the_time_out(serve: Serve, handler: Handler) -> None:
    """The time-out bounds the whole exchange, however busy the connection looks."""
    assert (await fault_of(await serve(handler), timeout_s=0.1)).reason == "timeout"


async def test_fetch_returns_any_status_with_its_headers(serve: Serve) -> None:
    """A status is an answer, not an exception; header names are case-insensitive."""

    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "3"}, text="later")

    answer = await ask(await serve(busy))
    assert (answer.status, answer.headers["retry-after"], bytes(answer.body)) == (503, "3", b"later")


@asynccontextmanager
async def raw_server(answer: bytes) -> AsyncIterator[str]:
    """Serve these bytes to whoever connects, then hang up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nA"],
)
async def test_a_broken_connection_is_a_connect_fault(answer: bytes) -> None:
    """Hung up at once, in the middle of headers or body, or not HTTP at all: classified by type."""
    async with raw_server(answer) as url:
        error = await fault_of(url)
    assert error.reason == "connect"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.0.0.1:99999", "nonsense"])
async def test_an_unusable_address_is_a_connect_fault(url: str) -> None:
    """A refused connection and a URL that is none."""
    assert (await fault_of(url)).reason == "connect"


async def test_tls_is_never_given_up(serve: Serve) -> None:
    """A server without TLS behind an https URL is a fault that says so."""
    error = await fault_of((await serve(large)).replace("http:", "https:"))
    assert error.reason == "connect"
    assert "TLS" in str(error)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (" 5 ", 5.0),
        ("-5", None),
        ("nan", None),
        ("1e99", None),
        ("9" * 400, 86_400.0),
        ("٣", None),
        ("Sat, 21 Nov 2026 16:00:00 GMT", 0.0),
        ("Sat, 21 Nov 2026 17:00:09 -0000", 9.0),
        ("Sat, 21 Nov 9999 17:00:00 GMT", 86_400.0),
        ("soon", None),
    ],
)
def test_retry_after_is_bounded(value: str | None, expected: float | None) -> None:
    """Nonsense counts as absent; a value is clamped to a day and never negative."""
    assert retry_after_s(value, NOW) == expected


async def test_the_pacer_bounds_every_span() -> None:
    """Of any three starts the last is a span after the first, also with waiters that come at once."""
    pacer = Pacer(2, 0.05)
    starts: list[float] = []

    async def one() -> None:
        await pacer.turn()
        starts.append(asyncio.get_running_loop().time())

    await asyncio.gather(*(one() for _ in range(6)))
    assert all(later - earlier >= 0.049 for earlier, later in zip(starts, starts[2:], strict=False))


def test_sources_of_one_account_share_their_pacer() -> None:
    """The vendor counts by consumer, however many sources use it; another region or consumer counts apart."""
    pacer = shared_pacer("https://a", "me", 900, 5.0)
    assert shared_pacer("https://a", "me", 900, 5.0) is pacer
    assert shared_pacer("https://b", "me", 900, 5.0) is not pacer
    assert shared_pacer("https://a", "you", 900, 5.0) is not pacer


@pytest.mark.parametrize(("size", "elsewhere"), [(THREAD_ABOVE, False), (THREAD_ABOVE + 1, True)])
async def test_a_large_body_is_decoded_off_the_loops_thread(*, size: int, elsewhere: bool) -> None:
    """Seven busy days in one body must not hold up the deliveries."""
    thread = await decode(bytearray(size), lambda _: threading.get_ident())
    assert (thread != threading.get_ident()) is elsewhere
