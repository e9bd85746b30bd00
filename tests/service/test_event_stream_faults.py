"""Streams when something is missing: trimmed, lost, erased, or the store itself. Nobody loses in silence."""

import asyncio
import json
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.core.log import START
from relay.store.log import LogStore
from tests.helpers import wait_until
from tests.service.admin_api import Api, admin_api
from tests.service.sse import PATH, entry_fields, follow

pytestmark = pytest.mark.usefixtures("quick_tail")


async def test_a_place_before_what_is_kept_is_told(redis_client: Redis) -> None:
    """The page is refused with 410, the stream says where the hole is and goes on: nobody loses in silence."""
    async with admin_api(redis_client) as api:
        old = await api.mint(3)
        await wait_until(lambda: _passed(api, old[2].place.ms))
        items = (await api.get("/v1/events")).body["data"]
        kept = await api.mint(2)
        await api.store.log.trim(old[2].place.ms + 1)
        gone = await api.get("/v1/events", after=items[1]["cursor"])
        assert (gone.status, gone.body["type"]) == (410, "/problems/cursor-expired")
        assert (await api.get("/v1/events", cursor=items[1]["cursor"])).status == 410
        whole = await api.get("/v1/events", after=items[2]["cursor"])
        assert [one["data"]["event_id"] for one in whole.body["data"]] == [one.event_id for one in kept]
        async with follow(api, items[1]["cursor"]) as stream:
            gap, *rest = await stream.take(3)
            assert (gap.event, gap.data["after"], gap.data["reason"]) == (
                "relay.feed.gap",
                items[1]["cursor"],
                "retention",
            )
            assert gap.last_event_id == gap.data["continues_after"] == items[2]["cursor"]
            assert [one.data["data"]["event_id"] for one in rest] == [one.event_id for one in kept]


async def _passed(api: Api, ms: int) -> bool:
    return await api.store.deliveries.now_ms() > ms


async def test_an_event_id_that_was_trimmed_is_no_place(redis_client: Redis) -> None:
    """422 that names the parameter, for the page and for the stream."""
    async with admin_api(redis_client) as api:
        (old,) = await api.mint()
        await api.store.log.trim(old.place.ms + 1)
        for path in ("/v1/events", PATH):
            answer = await api.get(path, after=old.event_id)
            assert (answer.status, answer.pointers) == (422, ["/after"])


async def test_a_place_beyond_the_end_is_refused(redis_client: Redis) -> None:
    """A cursor of another store, or from before a loss, would wait in silence for ever."""
    async with admin_api(redis_client) as api:
        await api.mint(2)
        cursor = (await api.get("/v1/events")).body["data"][1]["cursor"]
        await redis_client.flushall()
        await api.mint(1)
        end = await api.store.log.end()
        await redis_client.delete("{relay}:log")
        assert end > START
        for path in ("/v1/events", PATH):
            answer = await api.get(path, after=cursor)
            assert (answer.status, answer.body["type"]) == (410, "/problems/cursor-expired")


async def test_a_store_that_is_away_ends_no_stream(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats go on, and when it is back so do the events, each once."""
    monkeypatch.setattr("relay.admin.stream.HEARTBEAT_S", 0.03)
    real = LogStore.wait
    away = asyncio.Event()

    async def wait(self: LogStore, *args: Any, **options: Any) -> Any:
        if away.is_set():
            raise ConnectionError("the store is away")
        return await real(self, *args, **options)

    monkeypatch.setattr(LogStore, "wait", wait)
    async with admin_api(redis_client) as api, follow(api) as stream:
        minted = [one.event_id for one in await api.mint(2)]
        assert await stream.ids(2) == minted
        away.set()
        missed = await api.mint(3)
        stream.comments.clear()
        got = []
        while len(stream.comments) < 3:
            message = await stream.block()
            got += [] if message is None else [message.data["data"]["event_id"]]
        away.clear()
        missed += await api.mint(1)
        got += await stream.ids(4 - len(got))
        assert got == [one.event_id for one in missed]


async def test_a_store_that_has_lost_its_end_sets_streams_back(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that stands beyond the end hears of it, and goes on from there."""
    async with admin_api(redis_client) as api, follow(api) as stream:
        await api.mint(3)
        before = (await stream.take(3))[-1].last_event_id
        entries = await api.store.log.after(START, await api.store.log.end(), 10)
        await redis_client.delete("{relay}:log")
        await redis_client.xadd("{relay}:log", entry_fields(entries[0].payload), id=str(entries[0].place))
        failed = asyncio.Event()

        async def fail(*_: Any, **__: Any) -> Any:
            failed.set()
            raise ConnectionError

        with monkeypatch.context() as patch:
            patch.setattr(LogStore, "wait", fail)
            await failed.wait()
        (gap,) = await stream.take(1)
        assert (gap.event, gap.data["reason"], gap.data["after"]) == ("relay.feed.gap", "store_lost_events", before)
        minted = await api.mint(1)
        assert await stream.ids(1) == [minted[0].event_id]


async def test_line_breaks_of_the_upstream_break_no_line(redis_client: Redis) -> None:
    """A row whose JSON is written over several lines stays one `data` line with the same content."""
    async with admin_api(redis_client) as api, follow(api) as stream:
        payload = b'{"type":"lab.completed","timestamp":"t","data":{"record":{"a":\n\r\n [1,\r 2]}}}'
        await redis_client.xadd("{relay}:log", entry_fields(payload))
        (message,) = await stream.take(1)
        assert {**message.data, "cursor": ""} == {**json.loads(payload), "cursor": ""}


async def test_what_was_erased_is_not_told_from_memory(redis_client: Redis) -> None:
    """A stream that begins before it gets the place only; one that has had it goes on, while the reader forgets."""
    async with admin_api(redis_client) as api:
        (first,) = await api.mint(1)
        async with follow(api, after=first.event_id) as one:
            gone, kept = [*await api.mint(1, user_id="learner-to-forget"), *await api.mint(1)]
            assert await one.ids(2) == [gone.event_id, kept.event_id]
            await api.store.erasure.erase([gone])
            api.tail.forget()
            async with follow(api, after=first.event_id) as other:
                told = await other.take(2)
            assert [message.data["data"].get("erased", False) for message in told] == [True, False]
            assert "learner-to-forget" not in str(told)
            later = await api.mint(2)
            assert await one.ids(2) == [entry.event_id for entry in later]
