"""The sender against subscribers that misbehave: bounded in time, bytes and connections, and always one outcome."""

import asyncio
import gzip
import itertools
import time
from collections.abc import Iterator

import pytest

from relay.core.outcome import Outcome
from relay.egress.transport import MAX_INFORMATIONAL
from tests.service.raw_server import OK, Behaviour, Peer, always, once, sender, serving, until

HEADERS = {"webhook-id": "evt_1"}


def flood(first: bytes, endless: Iterator[bytes]) -> Behaviour:
    """Answer with `first` and then with bytes that never end."""

    async def behave(peer: Peer) -> None:
        await peer.request()
        await peer.send(first)
        for piece in endless:
            await peer.send(piece)
            await asyncio.sleep(0)  # client and server share the loop

    return behave


def drip(first: bytes, drop: bytes) -> Behaviour:
    """Answer with `first` and then with one small piece every few milliseconds."""

    async def behave(peer: Peer) -> None:
        await peer.request()
        await peer.send(first)
        while True:
            await asyncio.sleep(0.01)
            await peer.send(drop)

    return behave


HEADER_LINE = b"x-a: " + b"a" * 100 + b"\r\n"
CHUNK = b"400\r\n" + b"a" * 1024 + b"\r\n"
TINY_CHUNKS = b"1\r\na\r\n" * 10_000
CHUNKED = b"HTTP/1.1 %d X\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        (flood(b"HTTP/1.1 200 OK\r\n", itertools.repeat(HEADER_LINE * 50)), Outcome.BODY),
        (flood(b"HTTP/1.1 200 OK\r\nx-a: ", itertools.repeat(b"a" * 4096)), Outcome.BODY),
        (flood(b"HTTP/1.1 200 ", itertools.repeat(b"a" * 4096)), Outcome.BODY),
        (flood(b"", itertools.repeat(b"HTTP/1.1 103 Early\r\n\r\n")), Outcome.BODY),
        (flood(b"", itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)), Outcome.BODY),
        (once(b"\x00\xff\xfe garbage\r\n\r\n"), Outcome.BODY),
        (once(b"SSH-2.0-OpenSSH_9.6\r\n"), Outcome.BODY),
        (once(b"HTTP/1.1 20 OK\r\n\r\n"), Outcome.BODY),
        (once(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok"), Outcome.BODY),
        (once(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"), Outcome.BODY),
        (once(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhi"), Outcome.STATUS),
        (drip(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"), Outcome.TIMEOUT),
        (drip(b"", b"H"), Outcome.BODY),
        (once(b"HTTP/1.1 102 Processing\r\n\r\n"), Outcome.TIMEOUT),
        (flood(CHUNKED % 200, itertools.repeat(CHUNK * 10)), Outcome.DELIVERED),
        (flood(CHUNKED % 200, itertools.repeat(TINY_CHUNKS)), Outcome.DELIVERED),
        (flood(CHUNKED % 500, itertools.repeat(TINY_CHUNKS)), Outcome.STATUS),
        (flood(CHUNKED % 500 + b"0\r\n", itertools.repeat(HEADER_LINE * 50)), Outcome.STATUS),
        (flood(b"HTTP/1.1 200 OK\r\n\r\n", itertools.repeat(b"a" * 65536)), Outcome.DELIVERED),
        (flood(b"HTTP/1.1 500 X\r\n\r\n", itertools.repeat(b"a" * 65536)), Outcome.STATUS),
        (drip(b"HTTP/1.1 500 X\r\n\r\n", b"a"), Outcome.STATUS),
    ],
)
async def test_an_endless_or_broken_answer_is_bounded_and_its_connection_closed(
    behaviour: Behaviour, outcome: Outcome
) -> None:
    """A body read outside the time-out (seen in several).

    Whatever a subscriber sends, the attempt ends within its time and holds no socket afterwards.
    """
    async with serving(behaviour) as server, sender() as client:
        started = time.monotonic()
        reply = await client.post(server.url, HEADERS, b"{}", timeout_s=0.3)
        assert time.monotonic() - started < 0.8
        assert reply.outcome is outcome
        assert len(reply.body) <= 1024
        assert "hunter2" not in reply.detail
        await until(lambda: server.ended == 1)


async def test_a_bad_chunk_after_a_2xx_does_not_undo_it() -> None:
    """A success stands from its complete headers; after an error status the status stands."""

    def bad(status: int) -> Behaviour:
        async def behave(peer: Peer) -> None:
            await peer.request()
            await peer.send(CHUNKED % status)
            await asyncio.sleep(0.02)
            await peer.send(b"zz\r\n")
            await peer.gone()

        return behave

    for status, outcome in ((200, Outcome.DELIVERED), (500, Outcome.STATUS)):
        async with serving(bad(status)) as server, sender() as client:
            reply = await client.post(server.url, HEADERS, b"{}", timeout_s=1)
            assert (reply.outcome, reply.status) == (outcome, status)
            await until(lambda server=server: server.ended == 1)  # type: ignore[misc]


async def test_a_gzip_bomb_is_neither_inflated_nor_read() -> None:
    """A body is kept as it came, at most 1 KiB of it."""
    bomb = gzip.compress(bytes(50_000_000))
    head = f"HTTP/1.1 500 X\r\ncontent-encoding: gzip\r\ncontent-length: {len(bomb)}\r\n\r\n".encode()
    async with serving(once(head + bomb)) as server, sender() as client:
        started = time.process_time()
        reply = await client.post(server.url, HEADERS, b"{}", timeout_s=2)
        assert (reply.outcome, reply.body) == (Outcome.STATUS, bomb[:1024])
        assert time.process_time() - started < 0.1


async def test_a_2xx_whose_body_stalls_is_a_success_within_about_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The body is waited for briefly, then the connection is closed instead of kept."""
    monkeypatch.setattr("relay.egress.sender.DRAIN_S", 0.05)
    stalled = once(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal")
    async with serving(stalled) as server, sender() as client:
        started = time.monotonic()
        reply = await client.post(server.url, HEADERS, b"{}", timeout_s=30)
        assert time.monotonic() - started < 1
        assert (reply.outcome, reply.status) == (Outcome.DELIVERED, 200)
        await until(lambda: server.ended == 1)


async def test_a_cancellation_while_draining_passes_through_and_closes() -> None:
    """A stopping relay does not wait for a stalled body, nor leave its socket open."""
    async with serving(once(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")) as server, sender() as client:
        task = asyncio.create_task(client.post(server.url, HEADERS, b"{}", timeout_s=30))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: server.ended == 1)


async def test_a_late_body_within_the_bounds_keeps_the_connection() -> None:
    """An honest server that flushes its headers first is not punished."""

    async def behave(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
            await asyncio.sleep(0.02)
            await peer.send(b"ok")

    async with serving(behave) as server, sender() as client:
        for _ in range(3):
            assert (await client.post(server.url, HEADERS, b"{}", timeout_s=5)).status == 200
    assert server.connections == 1


@pytest.mark.parametrize("pause_s", [0, 0.02])
@pytest.mark.parametrize("first", [OK, b"HTTP/1.1 204 No Content\r\n\r\n"])
async def test_a_smuggled_second_answer_is_never_taken_for_the_next_one(first: bytes, pause_s: float) -> None:
    """Bytes after a complete answer cost their connection: the next webhook gets its own answer."""
    numbers = itertools.count()

    async def behave(peer: Peer) -> None:
        while True:
            await peer.request()
            if next(numbers):
                await peer.send(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n")
                continue
            if pause_s:
                await peer.send(first)
                await asyncio.sleep(pause_s)
                await peer.send(OK)
            else:
                await peer.send(first + OK)

    async with serving(behave) as server, sender() as client:
        assert (await client.post(server.url, HEADERS, b"{}", timeout_s=5)).status in (200, 204)
        await asyncio.sleep(2 * pause_s)
        assert (await client.post(server.url, HEADERS, b"{}", timeout_s=5)).status == 500
    assert server.connections == 2


async def test_bytes_before_any_request_close_the_connection() -> None:
    """A server that speaks first cannot plant an answer."""

    async def eager(peer: Peer) -> None:
        await peer.send(OK)
        await peer.request()
        await peer.gone()

    async with serving(eager) as server, sender() as client:
        reply = await client.post(server.url, HEADERS, b"{}", timeout_s=1)
    assert reply.outcome in (Outcome.CONNECT, Outcome.DELIVERED)  # it depends on which packet was first
    assert server.connections == 1


async def test_a_few_informational_answers_are_skipped() -> None:
    """103 Early Hints and the like are legal before the final answer."""
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * MAX_INFORMATIONAL
    async with serving(always(hints + OK)) as server, sender() as client:
        for _ in range(2):
            assert (await client.post(server.url, HEADERS, b"{}", timeout_s=5)).status == 200
    assert server.connections == 1


async def test_a_reset_after_the_request_is_a_failure_and_not_repeated_at_once() -> None:
    """On a fresh connection the request may have been handled: the retry policy decides, not the client."""

    async def behave(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    async with serving(behave) as server, sender() as client:
        reply = await client.post(server.url, HEADERS, b"{}", timeout_s=5)
        await client.post(server.url, HEADERS, b"{}", timeout_s=5)
    assert (reply.outcome, server.connections) == (Outcome.CONNECT, 2)


def dying(*, goodbye: bytes, last_words: bytes = b"") -> tuple[Behaviour, list[bytes]]:
    """Answer the first request on a connection and drop it at the second; with a list of all bodies."""
    bodies: list[bytes] = []

    async def behave(peer: Peer) -> None:
        bodies.append((await peer.request())[1])
        await peer.send(OK)
        bodies.append((await peer.request())[1])
        await peer.send(last_words)
        if goodbye == b"FIN":
            peer.writer.close()
        else:
            peer.reset()

    return behave, bodies


@pytest.mark.parametrize("goodbye", [b"FIN", b"RST"])
async def test_a_stale_kept_connection_costs_no_attempt(goodbye: bytes) -> None:
    """Sent once more, the same bytes, on another connection, if no byte of an answer came."""
    behaviour, bodies = dying(goodbye=goodbye)
    async with serving(behaviour) as server, sender() as client:
        first = await client.post(server.url, HEADERS, b"1", timeout_s=5)
        second = await client.post(server.url, HEADERS, b"2", timeout_s=5)
    assert (first.outcome, second.outcome) == (Outcome.DELIVERED, Outcome.DELIVERED)
    assert (bodies, server.connections) == ([b"1", b"2", b"2"], 2)


async def test_a_stale_connection_is_replaced_once_only() -> None:
    """A server that always drops what it receives gets two tries, not a storm."""
    numbers = itertools.count()

    async def behave(peer: Peer) -> None:
        await peer.request()
        if not next(numbers):
            await peer.send(OK)
            await peer.request()
        peer.reset()

    async with serving(behave) as server, sender() as client:
        await client.post(server.url, HEADERS, b"1", timeout_s=5)
        reply = await client.post(server.url, HEADERS, b"2", timeout_s=5)
    assert (reply.outcome, server.connections) == (Outcome.CONNECT, 2)


async def test_a_second_stale_connection_is_a_failure_and_not_a_third_try() -> None:
    """However many kept connections have died, one attempt is sent twice at the most."""
    behaviour, bodies = dying(goodbye=b"RST")
    async with serving(behaviour) as server, sender() as client:
        await asyncio.gather(*(client.post(server.url, HEADERS, b"1", timeout_s=5) for _ in range(3)))
        reply = await client.post(server.url, HEADERS, b"2", timeout_s=5)
    assert (reply.outcome, bodies.count(b"2"), server.connections) == (Outcome.CONNECT, 2, 3)


@pytest.mark.parametrize("last_words", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_kept_connection_that_began_to_answer_is_not_sent_to_again(last_words: bytes) -> None:
    """One byte of an answer shows that the request arrived, so it is a failure like any other."""
    behaviour, bodies = dying(goodbye=b"FIN", last_words=last_words)
    async with serving(behaviour) as server, sender() as client:
        await client.post(server.url, HEADERS, b"1", timeout_s=5)
        reply = await client.post(server.url, HEADERS, b"2", timeout_s=5)
    assert reply.outcome in (Outcome.CONNECT, Outcome.BODY)
    assert (bodies, server.connections) == ([b"1", b"2"], 1)


async def test_a_subscriber_that_answers_but_does_not_read_holds_nothing() -> None:
    """A 413 before the body was sent is the answer, and what is unsent is dropped with the connection."""
    received = 0

    async def behave(peer: Peer) -> None:
        nonlocal received
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await asyncio.sleep(0.05)
        while data := await peer.reader.read(2**20):
            received += len(data)

    async with serving(behave) as server, sender() as client:
        reply = await client.post(server.url, HEADERS, bytes(16_000_000), timeout_s=5)
        assert (reply.outcome, reply.status) == (Outcome.STATUS, 413)
        await until(lambda: server.ended == 1)
    assert received < 16_000_000


async def test_one_hostile_subscriber_does_not_slow_another() -> None:
    """While twenty floods run, a healthy subscriber is served at its usual pace."""
    hostile = flood(b"HTTP/1.1 200 OK\r\n\r\n", itertools.repeat(b"a" * 65536))
    async with serving(hostile) as bad, serving(always(OK)) as good, sender() as client:
        floods = [asyncio.create_task(client.post(bad.url, HEADERS, b"{}", timeout_s=1)) for _ in range(20)]
        started = time.monotonic()
        for _ in range(20):
            assert (await client.post(good.url, HEADERS, b"{}", timeout_s=1)).outcome is Outcome.DELIVERED
        assert time.monotonic() - started < 1
        await asyncio.gather(*floods)
