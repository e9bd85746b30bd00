"""The poller when the store or another replica gets in its way: nothing is lost, nothing is told twice."""

from collections import Counter
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as StoreConnectionError

from relay.sources.base import Page
from relay.store.scripts import Script
from tests.helpers import wait_until
from tests.service.polling import Holder, PollRig, lab, later
from tests.service.upstreams import NOW

ENDED = {"End": 1_700_000_000}


def fault(holder: Holder, calls: set[int], *, executed: bool) -> Counter[str]:
    """Let these mints (from 1) fail: before they are executed, or after, with the answer lost."""
    original: Script = holder.store.snapshots._scripts.mint
    count = Counter[str]()

    async def mint(keys: Any, args: Any) -> Any:
        count["n"] += 1
        if count["n"] in calls and not executed:
            raise StoreConnectionError("not sent")
        answer = await original(keys, args)
        if count["n"] in calls:
            raise StoreConnectionError("the reply was lost")
        return answer

    holder.store.snapshots._scripts.mint = mint
    return count


@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize("call", [1, 2, 3])
async def test_a_store_fault_between_pages_costs_nothing(polls: PollRig, call: int, *, executed: bool) -> None:
    """Whichever write fails, executed or not: the watermark waits, the poll is made again, each event is told once."""
    holder = polls.holder()
    polls.source.show(lab(0))
    await holder.poll()
    fault(holder, {call}, executed=executed)
    polls.source.pages = [Page([lab(1)]), Page([lab(2)])]
    await holder.poll()
    saved = call == 3 and executed
    assert await polls.watermark() == (later(1) if saved else NOW)
    await holder.poll()
    assert await polls.told() == [("lab.started", "1"), ("lab.started", "2")]
    assert await polls.watermark() == later(2)


async def test_polling_goes_on_after_a_store_fault_under_the_same_lease(polls: PollRig) -> None:
    """After several polls a fault makes the poller load again; it is not locked out by its own fence."""
    holder = polls.holder()
    for number in range(5):
        polls.source.show(lab(number))
        await holder.poll()
    fault(holder, {1}, executed=False)
    polls.source.show(lab(10))
    await holder.poll()
    await holder.poll()
    assert ("lab.started", "10") in await polls.told()
    assert await polls.watermark() == later(6)


async def test_a_lost_reply_of_the_last_write_is_no_regression(polls: PollRig) -> None:
    """A save that failed, or whose answer was lost, is not mistaken for a store that has forgotten something."""
    for executed in (False, True):
        holder = polls.holder()
        polls.source.show()
        await holder.poll()
        fault(holder, {1}, executed=executed)
        await holder.poll()
        await holder.poll()
        await holder.leases.leave()
    assert await polls.told() == []


async def test_a_fenced_poller_stops_and_its_successor_goes_on(polls: PollRig) -> None:
    """The former holder writes nothing any more, though it still believes in its lease."""
    first, second = polls.holder(), polls.holder()
    polls.source.show(lab(1))
    await first.poll()
    second.leases.forget(["holder-1"])
    polls.source.show(lab(1), lab(2))
    await second.poll()
    polls.source.show(lab(1), lab(2), lab(3))
    await first.poll(tick=False)
    assert await polls.told() == [("lab.started", "2")]
    assert await polls.watermark() == later(1)
    await first.poll(tick=False)
    await second.poll()
    assert await polls.told() == [("lab.started", "2"), ("lab.started", "3")]


async def test_another_writer_is_met_with_a_reload(polls: PollRig, redis_client: Redis) -> None:
    """A snapshot that is not the expected one is read again; then the change is told from what really stands there."""
    holder, other = polls.holder(), polls.holder()
    polls.source.show(lab(1))
    await holder.poll()
    other.leases.forget(["holder-1"])
    polls.source.show(lab(1, 4, **ENDED))
    await other.poll()
    await redis_client.set("{relay}:fence:lod", f"{holder.leases.source_token('lod')}:2")  # the fence did not hold
    await holder.poll(tick=False)
    await holder.poll(tick=False)
    assert await polls.told() == [("lab.completed", "1")]


async def everything(client: Redis) -> dict[Any, Any]:
    """Every key with its content."""
    return {key: await client.dump(key) for key in await client.keys("*")}


async def back_to(client: Redis, before: dict[Any, Any]) -> None:
    """Let the store be what it was before, as after a failover that lost a tail."""
    await client.flushall()
    for key, value in before.items():
        await client.restore(key, 0, value)


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("taken_again", [False, True])
async def test_a_store_that_was_emptied_is_restored(
    polls: PollRig, redis_client: Redis, *, quiet: bool, taken_again: bool
) -> None:
    """Whether the next poll has news or not, and whether the lease is taken again before it or after.

    The snapshots come back, the gap is told once, what goes on is told from the old state, and there is no baseline.
    """
    holder = polls.holder()
    polls.source.show(lab(1), lab(2), lab(3, 4, **ENDED))
    await holder.poll()
    snapshots = await polls.store.snapshots.load("lod")
    await redis_client.flushall()
    rows = [lab(1), lab(2), lab(3, 4, **ENDED)] if quiet else [lab(1, 4, **ENDED), lab(2), lab(3, 4, **ENDED)]
    polls.source.show(*rows)
    await holder.poll(tick=taken_again)
    for _ in range(2):
        await holder.poll()
    restored = await polls.store.snapshots.load("lod")
    assert restored.keys() == snapshots.keys()
    expected = [("relay.source.gap", "lod")] + ([] if quiet else [("lab.completed", "1")])
    assert await polls.told() == expected
    if not quiet:
        assert (await polls.data())[1]["transition"] == {"from": "Incomplete", "to": "Complete"}
        assert restored["1"] != snapshots["1"]


async def test_a_store_that_lost_its_tail_gets_it_back(polls: PollRig, redis_client: Redis) -> None:
    """A failover forgets the latest polls: the same events, with the same ids, stand in the log again; no gap is told.

    That holds for a state that the upstream has moved on from meanwhile, too.
    """
    holder = polls.holder()
    polls.source.show(lab(1, 2))
    await holder.poll()
    before = await everything(redis_client)
    polls.source.show(lab(1, 3), lab(2))
    await holder.poll()
    ids = [entry.event_id for entry in await polls.log()]
    await back_to(redis_client, before)
    polls.source.show(lab(1, 4, **ENDED), lab(2))
    for _ in range(3):
        await holder.poll()
    assert [entry.event_id for entry in await polls.log()][:2] == ids
    assert await polls.told() == [("lab.engaged", "1"), ("lab.started", "2"), ("lab.completed", "1")]


async def test_a_tail_lost_in_the_middle_of_a_poll_is_noticed(polls: PollRig, redis_client: Redis) -> None:
    """The page that was confirmed and forgotten is minted again, though no later change hits upon it."""
    holder = polls.holder()
    polls.source.show(lab(1, 2))
    await holder.poll()
    before = await everything(redis_client)
    original = holder.store.snapshots._scripts.mint
    count = Counter[str]()

    async def mint(keys: Any, args: Any) -> Any:
        count["n"] += 1
        if count["n"] == 2:
            await back_to(redis_client, before)
        return await original(keys, args)

    holder.store.snapshots._scripts.mint = mint
    polls.source.pages = [Page([lab(1, 3)]), Page([])]
    await holder.poll()
    polls.source.show(lab(1, 4, **ENDED))
    await holder.poll()
    assert await polls.told() == [("lab.engaged", "1"), ("lab.completed", "1")]


async def test_a_new_source_with_a_store_fault_in_its_baseline_stays_silent(polls: PollRig) -> None:
    """The baseline is repeated until its watermark is written; only what changed in between is told."""
    holder = polls.holder()
    fault(holder, {2}, executed=False)
    polls.source.pages = [Page([lab(1, 2)]), Page([lab(2)])]
    await holder.poll()
    polls.source.pages = [Page([lab(1, 3)]), Page([lab(2)])]
    await holder.poll()
    assert await polls.told() == [("lab.engaged", "1")]


async def test_the_loop_recovers_from_a_silent_store(polls: PollRig) -> None:
    """Faults end no loop: it goes on with a short pause, which a wake-up ends."""
    holder = polls.holder()
    fault(holder, {1, 2, 3}, executed=False)
    polls.source.show(lab(1))
    async with holder.running():

        async def saved() -> bool:
            holder.poller.poll_now()
            return await polls.watermark() is not None

        await wait_until(saved)
