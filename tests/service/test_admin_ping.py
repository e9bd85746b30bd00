"""POST /v1/subscribers/{id}/test against real receivers."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # the library has no annotations
import msgspec
from aiohttp import web
from redis.asyncio import Redis
from standardwebhooks import Webhook

from relay.core.catalogue import catalogue
from tests.helpers import wait_until
from tests.service.admin_api import admin_api

Received = list[tuple[dict[str, str], bytes]]


@contextlib.asynccontextmanager
async def receiver(status: int = 204, *, gate: asyncio.Event | None = None) -> AsyncIterator[tuple[str, Received]]:
    """Run a receiver; with a gate it answers once that is open."""
    received: Received = []

    async def handle(request: web.Request) -> web.Response:
        received.append((dict(request.headers), await request.read()))
        if gate is not None:
            await gate.wait()
        return web.Response(status=status, body=b"no\xff" if status >= 400 else b"")

    app = web.Application()
    app.router.add_post("/hooks", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hooks", received
    finally:
        await runner.cleanup()


async def test_a_test_arrives_signed_and_answers_with_its_attempt(redis_client: Redis) -> None:
    """The independent library verifies it; it has the shape of the catalogue, and each test has its own id."""
    async with admin_api(redis_client) as api, receiver() as (url, received):
        created = await api.subscribe(url=url, headers={"X-Tenant": "a"})
        path = f"/v1/subscribers/{created['id']}/test"
        answers = [(await api.call("POST", path)).body for _ in range(2)]
        payloads: list[Any] = []
        for headers, body in received:
            signed = {name.lower(): value for name, value in headers.items()}
            # The test's clock stands still, so the library's tolerance is no part of this.
            expected = Webhook(created["secret"]).sign(signed["webhook-id"], api.clock.now(), body.decode())
            assert signed["webhook-signature"] == expected
            payloads.append(json.loads(body))
        assert [one["data"]["sequence"] for one in payloads] == [1, 2]
        assert [one["data"]["event_id"] for one in payloads] == [one["event_id"] for one in answers]
        assert [headers["webhook-id"] for headers, _ in received] == [one["event_id"] for one in answers]
        assert len({one["event_id"] for one in answers}) == 2
        jsonschema.Draft202012Validator(catalogue()["relay.test"].schema).validate(payloads[0])
        assert payloads[0]["data"]["entity"] == {"kind": "subscriber", "id": created["id"]}
        attempt = answers[0]["attempt"]
        assert (attempt["outcome"], attempt["status_code"], attempt["attempt_no"]) == ("delivered", 204, 1)
        assert received[0][0]["X-Tenant"] == "a"


async def test_a_failed_test_is_an_answer_and_leaves_nothing_behind(redis_client: Redis) -> None:
    """200 with what went wrong, for a disabled subscriber too; no delivery, no retry, no event."""
    async with admin_api(redis_client) as api, receiver(500) as (url, _):
        created = await api.subscribe(url=url, enabled=False)
        answer = await api.call("POST", f"/v1/subscribers/{created['id']}/test")
        attempt = answer.body["attempt"]
        assert (answer.status, attempt["outcome"], attempt["status_code"]) == (200, "status", 500)
        assert attempt["dns_ms"] is None  # the URL names an address
        assert 0 <= attempt["connect_ms"] <= attempt["duration_ms"] >= attempt["first_byte_ms"] >= 0
        assert attempt["response_body"] == "no\N{REPLACEMENT CHARACTER}"
        assert "verdict" not in attempt
        for path in ("/v1/deliveries", "/v1/events"):
            assert (await api.get(path)).body["data"] == []


async def test_only_one_test_of_a_subscriber_runs_at_a_time(redis_client: Redis) -> None:
    """A second one meanwhile is a conflict; afterwards it goes."""
    gate = asyncio.Event()
    async with admin_api(redis_client) as api, receiver(gate=gate) as (url, received):
        path = f"/v1/subscribers/{(await api.subscribe(url=url))['id']}/test"
        first = asyncio.ensure_future(api.call("POST", path))
        await wait_until(lambda: received)
        assert (await api.call("POST", path)).body["type"] == "/problems/conflict"
        gate.set()
        assert (await first).status == 200
        assert (await api.call("POST", path)).status == 200


async def test_a_secret_that_cannot_be_opened_is_told(redis_client: Redis) -> None:
    """The key that sealed it is missing: the problem names the setting."""
    async with admin_api(redis_client) as api:
        created = await api.subscribe()
        old = await api.store.registry.get(created["id"])
        assert old is not None
        other = await api.subscribe()
        foreign = await api.store.registry.get(other["id"])
        assert foreign is not None
        await api.store.registry.replace(old, msgspec.structs.replace(old, secrets=foreign.secrets))
        answer = await api.call("POST", f"/v1/subscribers/{created['id']}/test")
        assert answer.status == 409
        assert "RELAY_ENCRYPTION_KEYS" in answer.body["detail"]
