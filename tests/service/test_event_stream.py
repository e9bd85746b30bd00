"""The feed as Server-Sent Events: nothing lost, nothing twice, and nobody waits for anybody."""

import asyncio
import socket
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.admin import feed_tail
from tests.helpers import wait_until
from tests.service.admin_api import TOKEN, Api, admin_api
from tests.service.sse import PATH, entry_fields, follow

pytestmark = pytest.mark.usefixtures("quick_tail")


async def test_a_stream_begins_now_and_tells_the_items_of_the_feed(redis_client: Redis) -> None:
    """`id` is the cursor, `event` the type, `data` the very item that `GET /v1/events` shows, on one line."""
    async with admin_api(redis_client) as api:
        await api.mint(3)
        async with follow(api) as stream:
            minted = await api.mint(2)
            messages = await stream.take(2)
        items = (await api.get("/v1/events")).body["data"][3:]
        assert [(one.event, one.last_event_id, one.data) for one in messages] == [
            ("lab.completed", item["cursor"], item) for item in items
        ]
        assert [one.data["data"]["event_id"] for one in messages] == [one.event_id for one in minted]
        assert (stream.retry_ms, "192.0.2.1" in str(messages)) == (2000, False)


async def test_headers_suit_proxies_and_browsers(redis_client: Redis) -> None:
    """Media type with charset, no caching, no buffering, the request's id; HEAD answers without following."""
    async with admin_api(redis_client) as api:
        async with follow(api) as stream:
            told = stream.response.headers
            assert told["Content-Type"] == "text/event-stream; charset=utf-8"
            assert (told["Cache-Control"], told["X-Accel-Buffering"]) == ("no-store", "no")
            assert (told["X-Content-Type-Options"], told["Server"], "X-Request-Id" in told) == (
                "nosniff",
                "relay",
                True,
            )
        head = await api.call("HEAD", PATH)
        assert (head.status, head.headers["Content-Type"]) == (200, told["Content-Type"])
        async with api.http.get(PATH) as refused:
            assert refused.status == 401


async def test_last_event_id_goes_on_without_loss_or_repeat(redis_client: Redis) -> None:
    """Cut off anywhere, a consumer has each event once; the header is newer than the URL's `after`."""
    async with admin_api(redis_client) as api:
        minted = [one.event_id for one in await api.mint(450)]
        first = (await api.get("/v1/events", limit=1)).body["data"][0]
        got, last = [minted[0]], first["cursor"]
        for count in (1, 120, 0, 300):
            async with follow(api, last, after=first["cursor"]) as stream:
                got += await stream.ids(count)
                last = stream.last_event_id
            minted += [one.event_id for one in await api.mint(1)]
        async with follow(api, last) as stream:
            got += await stream.ids(len(minted) - len(got))
        assert got == minted


async def test_a_stream_can_begin_behind_an_event(redis_client: Redis) -> None:
    """`after` takes an id as `GET /v1/events` does, and refuses what it cannot find."""
    async with admin_api(redis_client) as api:
        minted = await api.mint(3)
        async with follow(api, after=minted[0].event_id) as stream:
            assert await stream.ids(2) == [one.event_id for one in minted[1:]]
        for query, pointer in (("?after=evt_no", "/after"), ("?after=x", "/after"), ("?limit=1", "/limit")):
            answer = await api.call("GET", PATH + query)
            assert (answer.status, answer.pointers) == (422, [pointer])
        answer = await api.call("GET", PATH, headers={"Last-Event-ID": "nonsense"})
        assert (answer.status, answer.pointers) == (422, ["/Last-Event-ID"])
        assert "leave it out to begin now" in answer.body["errors"][0]["detail"]


async def test_heartbeats_carry_a_place_that_has_moved(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a rare filter `Last-Event-ID` keeps up with the log, so that it does not fall behind retention."""
    monkeypatch.setattr("relay.admin.stream.HEARTBEAT_S", 0.05)
    async with admin_api(redis_client) as api:
        async with follow(api, event_type="lab.cancelled") as stream:
            begun = stream.last_event_id
            await api.mint(3)
            while stream.last_event_id == begun:
                assert await stream.block() is None
            assert stream.comments[-1] == "heartbeat"
            (rare,) = await api.mint(1, "lab.cancelled")
            assert await stream.ids(1) == [rare.event_id]
        async with follow(api, begun, event_type="lab.*", source="lod", entity_id=rare.entity_id) as stream:
            assert await stream.ids(1) == [rare.event_id]


async def test_a_hundred_streams_cost_one_reader(redis_client: Redis) -> None:
    """Each has every event, in order; the store is asked as if there were one, and not at all when there is none."""
    async with admin_api(redis_client) as api:

        async def one(started: asyncio.Semaphore) -> list[str]:
            async with follow(api) as stream:
                started.release()
                return await stream.ids(40)

        started = asyncio.Semaphore(0)
        streams = [asyncio.create_task(one(started)) for _ in range(100)]
        for _ in streams:
            await started.acquire()
        before = await _commands(redis_client)
        minted = []
        for _ in range(20):
            minted += [entry.event_id for entry in await api.mint(2)]
        assert await asyncio.gather(*streams) == [minted] * 100
        after = await _commands(redis_client)
        assert after.get("xread", 0) - before.get("xread", 0) <= 45  # one per mint at the most, and the pauses
        assert after.get("xrange", 0) - before.get("xrange", 0) <= 40 + 4  # the test's own look-ups
        await wait_until(lambda: not api.tail._followers and api.tail._end is None)
        quiet = await _commands(redis_client)
        await asyncio.sleep(0.1)
        assert (await _commands(redis_client)).get("xread") == quiet.get("xread")


async def _commands(client: Redis) -> dict[str, int]:
    stats: dict[str, Any] = await client.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(one["calls"]) for name, one in stats.items()}


async def test_a_slow_reader_holds_nothing_and_nobody(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not take stays in the log: memory is bounded, others are served at once, and it loses nothing."""
    monkeypatch.setattr("relay.admin.feed_tail.MAX_FRAMES", 50)
    async with admin_api(redis_client) as api:
        with ExitStack() as stack:
            slow = _raw(api, stack)
            await wait_until(lambda: api.tail._followers)
            async with follow(api) as quick_one:
                await _fill(redis_client, 600)
                minted = [one.data["data"]["event_id"] for one in await quick_one.take(600)]
            assert min(one.place for one in api.tail._followers) < await api.store.log.end()
            assert (len(set(minted)), len(api.tail._frames) <= 50) == (600, True)
            loop, text = asyncio.get_running_loop(), bytearray()
            async with asyncio.timeout(10):
                while text.find(b'"e599"', -100_000) < 0:
                    text += await loop.sock_recv(slow, 1_000_000)
            assert [part.partition(b'"')[0].decode() for part in text.split(b'"event_id":"')[1:]] == minted


async def _fill(client: Redis, count: int) -> None:
    """Write more into the log than the buffers of a connection hold."""
    pipe = client.pipeline(transaction=False)
    for number in range(count):
        payload = b'{"type":"lab.completed","timestamp":"t","data":{"event_id":"e%d","record":"%s"}}'
        pipe.xadd("{relay}:log", entry_fields(payload % (number, b"x" * 20_000)))
    await pipe.execute()


def _raw(api: Api, stack: ExitStack) -> socket.socket:
    """A client that asks and does not read."""
    client = stack.enter_context(socket.create_connection((str(api.http.host), int(api.http.port or 0))))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    client.sendall(f"GET {PATH} HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    client.setblocking(False)
    return client


async def test_a_reader_that_takes_nothing_is_cut_off(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its place among the streams for a bounded time only."""
    monkeypatch.setattr("relay.admin.stream.STALL_S", 0.05)
    async with admin_api(redis_client) as api:
        with ExitStack() as stack:
            _raw(api, stack)
            await wait_until(lambda: api.tail._followers)
            await _fill(redis_client, 600)
            await wait_until(lambda: not api.tail._followers, 10)


async def test_a_stop_ends_streams_at_once(redis_client: Redis) -> None:
    """Those that wait and those whose reader has stalled: a drain takes no longer for them."""
    async with admin_api(redis_client) as api:
        with ExitStack() as stack:
            _raw(api, stack)
            await wait_until(lambda: api.tail._followers)
            async with follow(api) as stream:
                await _fill(redis_client, 600)
                api.tail.close()
                assert await stream.ended()
                await wait_until(lambda: not api.tail._followers, 1)
            answer = await api.call("GET", PATH)
            assert answer.status == 503


async def test_there_are_so_many_streams_and_no_more(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with Retry-After; one that was left makes room at once."""
    monkeypatch.setattr(feed_tail, "MAX_STREAMS", 1)
    async with admin_api(redis_client) as api:
        async with follow(api):
            refused = await api.call("GET", PATH)
            assert (refused.status, refused.body["type"]) == (503, "/problems/too-many-streams")
            assert refused.headers["Retry-After"] == "5"
            assert (await api.call("HEAD", PATH)).status == 200

        async def free() -> bool:
            async with api.http.get(PATH, headers={"Authorization": f"Bearer {TOKEN}"}) as response:
                return response.status == 200

        await wait_until(free)


async def test_places_only_grow(redis_client: Redis) -> None:
    """Cursors along a stream are in the order of the log."""
    async with admin_api(redis_client) as api, follow(api) as stream:
        minted = await api.mint(300)
        messages = await stream.take(300)
        assert [one.data["data"]["event_id"] for one in messages] == [one.event_id for one in minted]
        assert all(one.last_event_id != other.last_event_id for one, other in pairwise(messages))
