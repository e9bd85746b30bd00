"""The durability gate of the feed: what a failover could take back is shown to nobody, on no route."""

import os
import signal
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from relay.core.log import START, Place
from relay.durable import Durable
from relay.store import Store
from relay.store.connect import connect
from tests.helpers import ValkeyProcess, wait_until
from tests.service.admin_api import Api, admin_api
from tests.service.sse import PATH, follow
from tests.store.minting import Minter


@pytest.fixture
async def gated(pair: tuple[ValkeyProcess, ValkeyProcess], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """Provide an API that waits for one replica, with that replica in step."""
    monkeypatch.setattr("relay.admin.feed_tail.BLOCK_MS", 50)
    monkeypatch.setattr("relay.durable.GATE_TIMEOUT_MS", 30)
    async with connect(pair[0].url) as client:
        await wait_until(lambda: Store(client).log.reach_replicas(1, 50), 10)
        async with admin_api(client, wait_replicas=1) as api:
            yield api


async def test_nobody_reads_what_no_replica_has(gated: Api, pair: tuple[ValkeyProcess, ValkeyProcess]) -> None:
    """The page ends before it, its id is unknown, the stream waits; when the replica is back all of them go on."""
    (first,) = await gated.mint()
    async with follow(gated) as stream:
        assert [one["data"]["event_id"] for one in (await gated.get("/v1/events")).body["data"]] == [first.event_id]
        os.kill(pair[1].pid, signal.SIGSTOP)
        held = await gated.mint(2)
        page = (await gated.get("/v1/events")).body
        assert [one["data"]["event_id"] for one in page["data"]] == [first.event_id]
        assert (await gated.get(f"/v1/events/{held[0].event_id}")).status == 404
        assert (await gated.get(f"/v1/events/{first.event_id}")).status == 200
        with pytest.raises(TimeoutError):
            await stream.take(1, timeout_s=0.2)
        os.kill(pair[1].pid, signal.SIGCONT)
    ids = [one.event_id for one in held]

    async def all_shown() -> bool:
        answer = await gated.get("/v1/events", after=page["data"][-1]["cursor"])
        return [one["data"]["event_id"] for one in answer.body["data"]] == ids

    await wait_until(all_shown)
    async with follow(gated, page["data"][-1]["cursor"]) as stream:
        assert await stream.ids(2) == ids


async def test_a_stream_does_not_begin_at_a_place_that_may_be_lost(
    gated: Api, pair: tuple[ValkeyProcess, ValkeyProcess]
) -> None:
    """As long as nothing is known to be durable, now has no place."""
    os.kill(pair[1].pid, signal.SIGSTOP)
    await gated.mint()
    answer = await gated.get(PATH)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_what_the_store_no_longer_holds_is_read_again(redis_client: Redis) -> None:
    """An event that was read before a failover took it back is not passed by the gate of the new server."""
    store = Store(redis_client)
    durable = Durable(store.log, 1)
    await Minter(store).mint(1)
    end = await store.log.end()
    assert await durable.passes(Place(end.ms + 1, 0)) is None
    assert (await durable.shown()).end == START
    assert not await durable.shows(end)
    assert await Durable(store.log, 0).passes(Place(end.ms + 1, 0))
