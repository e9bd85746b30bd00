"""Two replicas and a store that comes back empty: whoever takes the source first, it is never a new baseline."""

import pytest
from redis.asyncio import Redis

from relay.core.events import rfc3339
from relay.standby import GIVE_WAY_S
from tests.helpers import wait_until
from tests.service.polling import Holder, PollRig, lab

ENDED = {"End": 200}


@pytest.fixture
async def standby(polls: PollRig) -> Holder:
    """Provide a replica that has seen another one poll."""
    polls.source.show(lab(1), lab(2))
    holder, other = polls.holder(), polls.holder()
    await holder.poll()
    async with other.running():
        await wait_until(lambda: other.poller._standby.seen is not None)
    return other


async def test_whoever_polled_last_restores_the_store(polls: PollRig, redis_client: Redis, standby: Holder) -> None:
    """The standby comes first, and leaves the source to the one that has the snapshots: the transition is told."""
    holder = polls.holders[0]
    await redis_client.flushall()
    polls.source.show(lab(1, 4, **ENDED), lab(2))
    await standby.poll()
    await standby.leases.tick()
    assert standby.leases.source_token("lod") is None
    for _ in range(2):
        await holder.poll()
    assert await polls.told() == [("relay.source.gap", "lod"), ("lab.completed", "1")]


async def test_if_nobody_restores_the_store_the_gap_is_told(
    polls: PollRig, redis_client: Redis, standby: Holder
) -> None:
    """The replica that polled last is gone with the store: what may have happened since is unknown, and said to be."""
    seen = standby.poller._standby.seen
    await redis_client.flushall()
    polls.source.show(lab(1, 4, **ENDED), lab(2))
    await standby.poll()
    polls.clock.advance(GIVE_WAY_S)
    for _ in range(2):
        await standby.poll()
    assert await polls.told() == [("relay.source.gap", "lod")]
    assert seen is not None
    assert (await polls.data())[0]["record"]["from"] == rfc3339(seen)
    polls.source.show(lab(1, 4, **ENDED), lab(2, 4, **ENDED))
    await standby.poll()
    assert (await polls.told())[1:] == [("lab.completed", "2")]


async def test_a_source_that_nobody_has_read_begins_with_a_baseline(polls: PollRig) -> None:
    """A standby of a new source has seen nothing: its first poll is an ordinary one."""
    polls.source.show(lab(1))
    await polls.holder().poll()
    assert await polls.told() == []
