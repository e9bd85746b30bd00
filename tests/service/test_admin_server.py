"""The HTTP server of both listeners against those who have no token: time, memory, connections, malformed requests."""

import asyncio
import gzip
import zlib

import pytest
import structlog

from relay.admin.server import HEAD_BYTES, HEADERS, KEEP_ALIVE_S, api_connections
from tests.helpers import wait_until
from tests.service.raw_client import GET, target

HALF = b"GET /quick HTTP/1.1\r\nHost: x\r\n"
MARK = b"hunter2"


@pytest.mark.parametrize("sent", [b"", b"G", HALF, b"\r\n", HALF + b"A: b"])
async def test_a_connection_without_a_head_is_closed_in_time(sent: bytes) -> None:
    """Whoever sends nothing, or half a head, is cut off, and counted."""
    async with target(head_s=0.03) as it:
        raw = await it.connect()
        raw.send(sent)
        assert await raw.closed() == b""
        await wait_until(lambda: it.refused("slow") == 1)
        assert it.open == 0


async def test_bytes_one_by_one_gain_no_time() -> None:
    """The limit is for the whole head: a drip does not renew it."""
    async with target(head_s=0.1) as it:
        raw = await it.connect()
        raw.send(HALF)
        drip = iter(b"a: b\r\n" * HEADERS)

        def closed() -> bool:
            raw.send(bytes([next(drip)]))
            return it.refused("slow") == 1

        await wait_until(closed)
        assert await raw.closed() == b""


async def test_idle_connections_live_longer_than_half_a_next_head() -> None:
    """Between requests a connection may be idle for long; once a head has begun, it has the time of a head."""
    async with target(head_s=0.05) as it:
        idle, begun = await it.connect(), await it.connect()
        assert [(await one.ask()).status for one in (idle, begun)] == [200, 200]
        begun.send(HALF)
        assert await begun.closed() == b""
        assert (await idle.ask()).status == 200
        assert it.refused("slow") == 1


async def test_an_idle_connection_is_closed_in_the_end() -> None:
    """Keep-alive is bounded, and by default longer than a minute."""
    assert 60 < KEEP_ALIVE_S < 120
    async with target(keep_alive_s=0.05) as it:
        raw = await it.connect()
        assert (await raw.ask()).status == 200
        assert await raw.closed() == b""


async def test_slow_bodies_and_streams_are_not_cut_off() -> None:
    """The limits are for heads: a handler takes the time that it takes."""
    async with target(head_s=0.03, keep_alive_s=0.03, answer_s=0.03) as it:
        slow, stream = await it.connect(), await it.connect()
        stream.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        slow.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n")
        for byte in b"slowbody":
            slow.send(bytes([byte]))
            await asyncio.sleep(0.02)
        assert (await slow.reply()).body == b"slowbody"
        await stream.reader.readuntil(b"\r\n\r\n")
        assert (await stream.reader.read(1)) != b""
        it.release.set()
        assert (await stream.closed()).endswith(b"0\r\n\r\n")


async def test_half_a_head_behind_a_request_does_not_cut_that_off() -> None:
    """A request that is at work is answered; then the connection is closed."""
    async with target(head_s=0.03) as it:
        raw = await it.connect()
        raw.send(GET.replace(b"quick", b"held") + HALF)
        raw.send(b"A: b")
        await wait_until(lambda: it.refused("slow") == 1)
        it.release.set()
        assert (await raw.reply()).body == b"held"
        assert await raw.closed() == b""


def lines(count: int, length: int) -> bytes:
    """So many header lines of so many bytes."""
    return b"".join(b"a%d: %s\r\n" % (number, MARK * (length // len(MARK))) for number in range(count))


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HALF + lines(HEADERS + 1, 10) + b"\r\n", 400),
        (HALF + lines(1, 9000), 431),
        (b"GET /" + b"q" * 9000, 431),
        (HALF + lines(5, 4000), 431),
        (HALF + lines(60, 8000), 431),
        (GET + HALF + lines(5, 4000), 431),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + HALF + lines(5, 4000), 431),
    ],
)
async def test_heads_are_bounded(head: bytes, status: int) -> None:
    """In lines, in their number and in their sum, also behind a complete request; a problem says so."""
    async with target() as it:
        raw = await it.connect()
        raw.send(head)
        reply = await raw.reply()
        if reply.status == 200:
            reply = await raw.reply()
        assert (reply.status, reply.problem["status"]) == (status, status)
        assert MARK not in reply.raw
        await raw.closed()
        assert it.refused("malformed") == 1


async def test_a_flood_of_headers_is_not_kept() -> None:
    """Bytes that make no complete head are counted as they come: the connection ends long before a megabyte."""
    async with target() as it:
        raw = await it.connect()
        raw.send(HALF)
        sent = 0
        while not it.refused("malformed"):
            raw.send(b"x: %s\r\n" % (b"y" * 994))
            sent += 1000
            await asyncio.sleep(0.001)
            assert sent < 2 * HEAD_BYTES
        await raw.closed()


@pytest.mark.parametrize("pieces", [1, 2, 40])
async def test_bodies_are_no_heads(pieces: int) -> None:
    """However a body arrives, the bound of heads is not for it; requests behind one another are no large head."""
    body = b"x" * (4 * HEAD_BYTES)
    request = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with target(head_s=0.2) as it:
        raw = await it.connect()
        for _ in range(3):
            size = len(request) // pieces + 1
            for start in range(0, len(request), size):
                raw.send(request[start : start + size])
                await asyncio.sleep(0)
            assert (await raw.reply()).body == body
        raw.send(GET * 25)
        assert [(await raw.reply()).status for _ in range(25)] == [200] * 25
        assert it.refused("malformed") == 0


async def test_who_waits_longest_makes_room() -> None:
    """A full listener still serves who has something to ask: an idle connection is closed for each newcomer."""
    async with target(connections=3) as it:
        idle = [await it.connect() for _ in range(3)]
        assert (await idle[0].ask()).status == 200  # the second one has waited longest now
        with structlog.testing.capture_logs() as logs:
            for number in range(5):
                newcomer = await it.connect()
                assert (await newcomer.ask()).status == 200
                assert it.open <= 3, number
            assert await idle[1].closed() == b""
        assert it.refused("full") == 5
        assert [(one["event"], one["listener"], one["count"]) for one in logs] == [("http.connections_full", "api", 1)]


async def test_a_newcomer_is_refused_when_all_are_at_work() -> None:
    """Nobody who is being served is cut off for another; afterwards there is room again."""
    async with target(connections=2) as it:
        busy = [await it.connect() for _ in range(2)]
        for one in busy:
            one.send(GET.replace(b"quick", b"held"))
        await wait_until(lambda: it.held == 2)
        refused = await it.connect()
        refused.send(GET)
        assert await refused.closed() == b""
        assert (it.refused("full"), it.open) == (1, 2)
        it.release.set()
        assert [(await one.reply()).body for one in busy] == [b"held", b"held"]
        assert (await (await it.connect()).ask()).status == 200


async def test_who_does_not_take_an_answer_is_cut_off() -> None:
    """An answer must be taken within its time: unread ones would hold their connections for ever."""
    async with target(answer_s=0.05) as it:
        raw = await it.connect()
        raw.send(GET.replace(b"quick", b"large"))
        await wait_until(lambda: it.refused("slow") == 1)
        await wait_until(lambda: it.open == 0)


@pytest.mark.parametrize(
    ("sent", "status", "kind"),
    [
        (b"GET /quick HTTP/1.1\r\nHost: x\r\nA: hunter2\x00\r\n\r\n", 400, "malformed-request"),
        (b"GET /hunter2 HTTP/1.1\r\n\r\n", 400, "malformed-request"),
        (b"FOO /hunter2 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed-request"),
        (b"GET /hunter2 HTTP/9.9\r\nHost: x\r\n\r\n", 400, "malformed-request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01hunter2", 400, "malformed-request"),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: hunter2\r\n\r\n", 400, "malformed-request"),
        (
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\nhunter2",
            400,
            "malformed-request",
        ),
        (b"GET * HTTP/1.1\r\nHost: x\r\nA: hunter2\r\n\r\n", 400, "malformed-request"),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nA: hunter2\r\n\r\n", 404, "not-found"),
        (b"CONNECT hunter2:1 HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not-found"),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: hunter2\r\n\r\n", 417, "expectation-failed"),
        (b"POST /hunter2 HTTP/1.1\r\nHost: x\r\nExpect: hunter2\r\n\r\n", 417, "expectation-failed"),
    ],
)
async def test_what_is_no_http_is_answered_as_everything_else(sent: bytes, status: int, kind: str) -> None:
    """A problem with an id, which repeats nothing of what was sent, and neither does the log."""
    with structlog.testing.capture_logs() as logs:
        async with target() as it:
            reply = await (await it.connect()).ask(sent)
            assert (reply.status, reply.problem["type"]) == (status, f"/problems/{kind}")
            assert MARK not in reply.raw
            assert b"aiohttp" not in reply.raw
    assert MARK.decode() not in str(logs)


async def test_a_flood_of_nonsense_fills_no_log() -> None:
    """One line for the first, and no other for a minute."""
    with structlog.testing.capture_logs() as logs:
        async with target() as it:
            for _ in range(5):
                await (await it.connect()).ask(b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n")
            assert it.refused("malformed") == 5
    assert [one["event"] for one in logs] == ["http.not_served"]


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "zstd", "deflate", "identity, gzip", "x-unknown"])
async def test_compressed_bodies_are_refused(coding: str) -> None:
    """415 says how to send it instead, and the connection is closed: the rest of the body is nobody's."""
    async with target() as it:
        raw = await it.connect()
        bomb = gzip.compress(b"a" * 1_000_000)
        head = f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Encoding: {coding}\r\nContent-Length: {len(bomb)}\r\n\r\n"
        reply = await raw.ask(head.encode() + bomb)
        assert (reply.status, reply.problem["type"]) == (415, "/problems/unsupported-media-type")
        assert reply.headers["accept-encoding"] == "identity"
        assert "Content-Encoding" in reply.problem["detail"]
        assert await raw.closed() == b""


async def test_nothing_is_ever_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even on the way past: what is refused is not looked into. A body that says it is no coding is taken."""

    def inflate(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(zlib, "decompressobj", inflate)
    async with target() as it:
        bomb = gzip.compress(b"a" * 1_000_000)
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
        raw = await it.connect()
        assert (await raw.ask(head % (b"identity", len(bomb)) + bomb)).body == bomb
        with structlog.testing.capture_logs() as logs:
            assert (await raw.ask(head % (b"gzip", len(bomb)) + bomb)).status == 415
        assert logs == []


@pytest.mark.parametrize(
    ("descriptors", "connections"), [(65_536, 1000), (4096, 1000), (2048, 512), (1024, 288), (256, 288)]
)
def test_the_api_leaves_descriptors_for_the_rest(descriptors: int, connections: int) -> None:
    """A quarter of them at most, but every stream has its place."""
    assert api_connections(descriptors) == connections
