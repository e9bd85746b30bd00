"""What the admin API and the ops endpoints make of broken bodies, refused tokens and requests while they stop."""

import asyncio
import socket
import struct

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from relay.admin import ops_app
from relay.telemetry import Metrics
from tests.helpers import wait_until
from tests.service.admin_api import TOKEN, admin_api
from tests.service.raw_client import attacked
from tests.service.test_admin_server import MARK

PATH = "/v1/subscribers"
HEAD = (
    f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n".encode()
)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BY_LENGTH = HEAD + b"Content-Length: 100\r\n\r\n"


@pytest.mark.parametrize("chunk", [b"hunter2\r\n", b"5\r\n{hunter2", b"-1\r\n", b"ffffffffffffffffffffff\r\n"])
async def test_a_malformed_chunk_is_answered_at_once(redis_client: Redis, chunk: bytes) -> None:
    """400 as soon as it is seen, not 408 when time is up, nor 500; and the connection is closed."""
    async with admin_api(redis_client) as api, attacked(api) as it:
        raw = await it.connect()
        raw.send(CHUNKED + b"1\r\n{\r\n")
        await wait_until(lambda: it.open == 1)
        await asyncio.sleep(0.01)  # so that the head is a request before the fault comes
        raw.send(chunk)
        reply = await raw.reply()
        assert (reply.status, reply.problem["type"]) == (400, "/problems/malformed-request")
        assert reply.headers["connection"] == "close"
        assert MARK not in reply.raw
        assert await raw.closed() == b""
        assert [one["event"] for one in api.logs] == []


@pytest.mark.parametrize("head", [CHUNKED + b"9\r\n", BY_LENGTH])
@pytest.mark.parametrize("reset", [True, False])
async def test_a_client_that_goes_away_is_not_the_stores_fault(redis_client: Redis, head: bytes, reset: bool) -> None:  # noqa: FBT001 - a case
    """FIN or RST in the middle of a body: nobody is told that the store cannot be reached, or that the relay failed."""
    async with admin_api(redis_client) as api, attacked(api) as it:
        raw = await it.connect()
        raw.send(head + b"{")
        await wait_until(lambda: it.open == 1)
        await asyncio.sleep(0.01)
        if reset:
            its = raw.writer.get_extra_info("socket")
            its.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.writer.close()
        await wait_until(lambda: it.open == 0)
        await asyncio.sleep(0.01)
        assert api.logs == []


async def test_refused_tokens_are_counted_and_told_seldom(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in the metric; in the log the first, and then how many more there were; never the token."""
    monkeypatch.setattr("relay.telemetry.QUIET_S", 0.05)
    async with admin_api(redis_client) as api:
        for _ in range(25):
            await api.call("GET", PATH, token="a-token-that-was-revoked")
        assert api.metrics.registry.get_sample_value("relay_refused_tokens_total") == 25
        await wait_until(lambda: sum(one["count"] for one in api.logs) == 25)
        assert {(one["event"], one["log_level"]) for one in api.logs} == {("admin.tokens_refused", "warning")}
        assert "revoked" not in str(api.logs)
        told = len(api.logs)
        assert told < 25
        await asyncio.sleep(0.06)
        assert len(api.logs) == told  # nothing more has happened, so nothing more is said


async def test_requests_without_a_token_are_no_refused_tokens(redis_client: Redis) -> None:
    """Whoever opens the API in a browser is no attack."""
    async with admin_api(redis_client) as api:
        async with api.http.get(PATH) as response:
            assert response.status == 401
        assert api.metrics.registry.get_sample_value("relay_refused_tokens_total") == 0
        assert api.logs == []


async def test_a_stream_is_told_that_the_relay_stops(redis_client: Redis) -> None:
    """During the drain: to come again, not to close another stream."""
    async with admin_api(redis_client) as api:
        api.tail.close()
        answer = await api.get("/v1/events/stream")
        assert (answer.status, answer.body["type"]) == (503, "/problems/stopping")
        assert (answer.headers["Retry-After"], answer.headers["Connection"]) == ("2", "close")


async def test_the_ops_endpoints_answer_as_the_api_does() -> None:
    """Problems for other paths and methods; the same headers; no version of the library."""

    async def ready() -> None:
        return None

    app = ops_app(metrics=Metrics(), alive=lambda: True, ready=ready)
    async with TestClient[web.Request, web.Application](TestServer(app)) as http:
        for method, path, status in (("GET", "/", 404), ("POST", "/metrics", 405), ("GET", "/readyz", 200)):
            async with http.request(method, path) as response:
                assert response.status == status
                assert (response.headers["Server"], response.headers["X-Content-Type-Options"]) == ("relay", "nosniff")
                assert response.headers["X-Request-Id"]
                if status != 200:
                    assert (await response.json(content_type="application/problem+json"))["status"] == status
        async with http.get("/other") as response:
            assert "/healthz" in (await response.json(content_type=None))["detail"]


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b"", "the body is empty"),
        (b'{"url": "https://x",\n }', "line 2, column 2"),
        (b"{hunter2}", "line 1, column 2"),
        (b'{"a": NaN}', "send one JSON object (RFC 8259)"),
        (b"\xff\xfe", "send one JSON object (RFC 8259)"),
    ],
)
async def test_what_is_no_json_is_told_where(redis_client: Redis, body: bytes, hint: str) -> None:
    """As far as that can be said, and without a word of what was sent."""
    async with admin_api(redis_client) as api:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        async with api.http.post(PATH, data=body, headers=headers) as response:
            text = await response.text()
        assert (response.status, hint in text, "hunter2" in text) == (400, True, False)
