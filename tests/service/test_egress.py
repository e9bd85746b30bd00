"""The sender against well-behaved servers: what is sent, and how answers are judged."""

import asyncio
import datetime as dt

import pytest

from relay.core.outcome import Outcome
from relay.egress.sender import parse_retry_after
from tests.service.raw_server import OK, Peer, always, sender, serving, until

HEADERS = {"webhook-id": "evt_1", "X-Tenant": "a", "content-type": "application/json"}
NOW = dt.datetime(2026, 11, 21, 17, 0, tzinfo=dt.UTC)


async def test_the_request_carries_exactly_the_given_headers_and_bytes() -> None:
    """Header names keep their case, nothing asks for compression, and the path is sent as it was registered."""
    seen: list[tuple[bytes, bytes]] = []

    async def behave(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(OK)

    async with serving(behave) as server, sender() as client:
        reply = await client.post(server.url + "%2F%c3", HEADERS, b'{"a":1}', timeout_s=5)
    head, body = seen[0]
    lines = head.split(b"\r\n")
    assert (reply.outcome, reply.status, body) == (Outcome.DELIVERED, 200, b'{"a":1}')
    assert lines[0] == b"POST /hooks?key=hunter2%2F%c3 HTTP/1.1"
    assert {b"X-Tenant: a", b"webhook-id: evt_1", b"User-Agent: relay/test"} <= set(lines)
    assert not {b"accept-encoding", b"cookie"} & {line.partition(b":")[0].lower() for line in lines}


async def test_connections_are_kept_and_cookies_are_not() -> None:
    """Several attempts share one connection and no state."""
    heads: list[bytes] = []

    async def behave(peer: Peer) -> None:
        while True:
            heads.append((await peer.request())[0])
            await peer.send(b"HTTP/1.1 204 No Content\r\nset-cookie: a=b\r\n\r\n")

    async with serving(behave) as server, sender() as client:
        for _ in range(3):
            assert (await client.post(server.url, HEADERS, b"{}", timeout_s=5)).status == 204
    assert (server.connections, len(heads)) == (1, 3)
    assert not any(b"cookie" in head.lower() for head in heads)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, "delivered") for status in (200, 204, 299)),
        *((status, "redirect") for status in (300, 304, 399)),
        *((status, "status") for status in (400, 410, 500, 999)),
    ],
)
async def test_only_2xx_is_success(status: int, outcome: str) -> None:
    """Every other final status is a failure of its own class, and its number is kept."""
    answer = f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode()
    async with serving(always(answer)) as server, sender() as client:
        reply = await client.post(server.url, HEADERS, b"{}", timeout_s=5)
    assert (reply.outcome, reply.status) == (outcome, status)


async def test_a_redirect_is_not_followed() -> None:
    """Redirects followed (outpost, convoy): here the other address hears nothing, of a 307 either."""
    async with serving(always(OK)) as other:
        answer = f"HTTP/1.1 307 X\r\nlocation: {other.url}\r\ncontent-length: 0\r\n\r\n".encode()
        async with serving(always(answer)) as server, sender() as client:
            reply = await client.post(server.url, HEADERS, b"{}", timeout_s=5)
        assert (reply.outcome, reply.status, other.connections) == (Outcome.REDIRECT, 307, 0)


async def test_a_failure_keeps_a_bounded_excerpt_of_its_body() -> None:
    """At most 1 KiB of an error's body is kept; a success keeps none."""
    body = b"e" * 3000
    answer = b"HTTP/1.1 500 X\r\ncontent-length: 3000\r\n\r\n" + body
    async with serving(always(answer)) as server, sender() as client:
        reply = await client.post(server.url, HEADERS, b"{}", timeout_s=5)
        assert reply.body == body[:1024]
        await client.post(server.url, HEADERS, b"{}", timeout_s=5)
    assert server.connections == 1


@pytest.mark.parametrize(("status", "expected"), [(429, 120.0), (503, 120.0), (500, None), (301, None), (200, None)])
async def test_retry_after_counts_for_429_and_503_only(status: int, expected: float | None) -> None:
    """Other answers cannot postpone anything."""
    answer = f"HTTP/1.1 {status} X\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n".encode()
    async with serving(always(answer)) as server, sender() as client:
        reply = await client.post(server.url, HEADERS, b"{}", timeout_s=5)
    assert reply.retry_after_s == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        (" 30 ", 30.0),
        ("1.5", 1.5),
        ("Sat, 21 Nov 2026 17:02:00 GMT", 120.0),
        ("Sat, 21 Nov 2026 17:02:00 -0000", 120.0),
        ("Sat, 21 Nov 2026 16:00:00 GMT", 0.0),
        ("1e99", 1e99),
        ("9" * 400, 1.7976931348623157e308),
        *((text, None) for text in ("-1", "nan", "inf", "", "soon", "1_000", "٣", "0x10", "Sat, 99 Nov 2026")),
    ],
)
def test_retry_after_is_a_finite_number_of_seconds_or_nothing(value: str, expected: float | None) -> None:
    """Seconds and dates are read; what makes no sense says nothing."""
    assert parse_retry_after(value, NOW) == expected


async def test_a_refused_connection_is_a_connect_failure() -> None:
    """Nobody listens: an outcome, not an exception, without the URL's path."""
    async with serving(always(OK)) as server:
        url = server.url
    async with sender() as client:
        reply = await client.post(url, HEADERS, b"{}", timeout_s=5)
    assert (reply.outcome, reply.detail) == (Outcome.CONNECT, "cannot connect (ECONNREFUSED)")


async def test_a_header_that_http_forbids_is_an_outcome_and_nothing_is_sent() -> None:
    """A line break in a configured header can neither inject a header nor end the caller."""
    async with serving(always(OK)) as server, sender() as client:
        reply = await client.post(server.url, {"X-A": "b\r\nX-Injected: c"}, b"{}", timeout_s=5)
        assert reply.outcome is Outcome.BLOCKED
        assert (await client.post(server.url, HEADERS, b"{}", timeout_s=5)).outcome is Outcome.DELIVERED


async def test_a_configured_header_cannot_frame_the_request() -> None:
    """Host and length are the client's own, once each; another framing is refused before anything is sent."""
    heads: list[bytes] = []

    async def behave(peer: Peer) -> None:
        heads.append((await peer.request())[0])
        await peer.send(OK)

    forged = {"content-length": "99", "Content-Length": "0", "HOST": "other.example", "user-agent": "own/1"}
    async with serving(behave) as server, sender() as client:
        reply = await client.post(server.url, forged, b"{}", timeout_s=5)
        refused = await client.post(server.url, {"transfer-encoding": "chunked"}, b"{}", timeout_s=5)
    names = [line.partition(b":")[0].lower() for line in heads[0].split(b"\r\n")]
    assert [names.count(name) for name in (b"host", b"content-length", b"user-agent")] == [1, 1, 1]
    assert b"other.example" not in heads[0]
    assert b"user-agent: own/1" in heads[0]
    assert (reply.outcome, refused.outcome, len(heads)) == (Outcome.DELIVERED, Outcome.BLOCKED, 1)


async def test_a_cancellation_passes_through_and_closes_the_connection() -> None:
    """A drain that gives up leaves no socket behind."""

    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with serving(silent) as server, sender() as client:
        task = asyncio.create_task(client.post(server.url, HEADERS, b"{}", timeout_s=30))
        await until(lambda: server.connections == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: server.ended == 1)
