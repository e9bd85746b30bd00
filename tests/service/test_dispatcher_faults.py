"""The dispatcher when something breaks: between any two steps, in the store, in its own timing."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from redis.exceptions import ConnectionError as StoreConnectionError

from relay.core.log import Waiting
from relay.store.deliveries import Group
from relay.store.keys import shard_of
from relay.store.leases import shard_resource
from tests.helpers import wait_until
from tests.service.rig import Behaviour, Hit, Replica, Rig, failing_first, refuse

STEPS: dict[str, Callable[[Replica], Any]] = {
    "control_end": lambda replica: replica.store.log,
    "extent": lambda replica: replica.store.log,
    "all": lambda replica: replica.store.registry,
    "take_up": lambda replica: replica.store.deliveries,
    "next_due_ms": lambda replica: replica.store.deliveries,
    "after": lambda replica: replica.store.log,
    "wait": lambda replica: replica.store.log,
    "attempt": lambda replica: replica.attempter,
    "commit": lambda replica: replica.store.deliveries,
    "due": lambda replica: replica.store.deliveries,
    "at": lambda replica: replica.store.log,
}
"""Every step of a delivery that awaits something, by the name of the method that is awaited."""


def stop_at(thing: Any, name: str, when: str, nth: int) -> asyncio.Event:
    """Let the nth call of a method never go on, before or after it has done its work; set once it has come there."""
    reached, calls = asyncio.Event(), Counter[str]()
    original = getattr(thing, name)

    async def stopped(*args: Any, **kwargs: Any) -> Any:
        calls["n"] += 1
        if calls["n"] < nth:
            return await original(*args, **kwargs)
        if when == "after":
            await original(*args, **kwargs)
        reached.set()
        return await asyncio.Event().wait()

    setattr(thing, name, stopped)
    return reached


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", STEPS)
async def test_a_crash_between_any_two_steps_loses_nothing(rig: Rig, name: str, when: str, nth: int) -> None:
    """Move, then remove, in a delayed queue (seen in several).

    Whatever step a replica dies at, its successor delivers everything, with the same ids.
    """
    rig.hooks.behaviours["flaky"] = failing_first(1)
    for subscriber in ("good", "flaky"):
        await rig.subscribe(subscriber)
    ids = await rig.minter.mint(6)
    victim = await rig.replica()
    reached = stop_at(STEPS[name](victim), name, when, nth)
    victim.start()
    for _ in range(nth):
        ids += await rig.minter.mint(2)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reached.wait(), 0.05)
    if nth == 1:  # not everything is called again so soon: then this is a crash in between
        await asyncio.wait_for(reached.wait(), 5)
    await victim.crash()
    await rig.started(after=[victim])
    for subscriber in ("good", "flaky"):
        await rig.all_accepted(subscriber, ids)
        assert set(rig.hooks.order(subscriber)) == set(ids)


def lose_replies(thing: Any, name: str, losses: int) -> Counter[str]:
    """Let the first calls of a method do their work, and then fail as if the answer had been lost."""
    calls = Counter[str]()
    original = getattr(thing, name)

    async def lossy(*args: Any, **kwargs: Any) -> Any:
        answer = await original(*args, **kwargs)
        calls["n"] += 1
        if calls["n"] <= losses:
            raise StoreConnectionError("the reply was lost")
        return answer

    setattr(thing, name, lossy)
    return calls


async def test_a_lost_commit_reply_is_recognised_as_done(rig: Rig) -> None:
    """A commit whose answer was lost is repeated: nothing is sent twice, no attempt is recorded twice."""
    await rig.subscribe("a")
    replica = await rig.replica()
    calls = lose_replies(replica.store.deliveries, "commit", 5)
    replica.start()
    ids = []
    for _ in range(5):
        ids += await rig.minter.mint(10)
        await rig.all_accepted("a", ids)
    await rig.committed("a")
    assert calls["n"] > 5
    assert Counter(ids) == rig.hooks.accepted["a"]
    groups = await rig.store.deliveries.attempts(shard_of("a"))
    assert Counter(ids) == Counter(one.event_id for _, group in groups for one in group)


async def test_results_behind_an_unconfirmed_commit_follow_at_once(rig: Rig) -> None:
    """What comes in while a commit's answer is missing does not wait for the next event to be committed."""
    await rig.subscribe("a")
    replica = await rig.started()
    first = await rig.minter.mint(1)
    await rig.all_accepted("a", first)
    await rig.committed("a")
    original, down = replica.store.deliveries.commit, asyncio.Event()

    async def refused(*args: Any, **options: Any) -> None:
        if not down.is_set():
            raise StoreConnectionError("down")
        await original(*args, **options)

    replica.store.deliveries.commit = refused  # type: ignore[method-assign]  # a store that is away
    for _ in range(3):
        first += await rig.minter.mint(1)
        await rig.all_accepted("a", first)
        await asyncio.sleep(0.03)
    down.set()
    await rig.committed("a", timeout_s=2)


async def test_a_store_that_is_away_for_a_moment_costs_nothing(rig: Rig) -> None:
    """Every call fails for a while: afterwards everything is delivered, once."""
    await rig.subscribe("a")
    replica = await rig.started()
    names = ("wait", "after", "extent")
    originals = {name: getattr(replica.store.log, name) for name in names}

    async def away(*_: Any, **__: Any) -> None:
        raise StoreConnectionError("away")

    for name in names:
        setattr(replica.store.log, name, away)
    ids = await rig.minter.mint(30)
    await asyncio.sleep(0.05)
    for name, original in originals.items():
        setattr(replica.store.log, name, original)
    await rig.all_accepted("a", ids)
    await rig.committed("a")
    assert Counter(ids) == rig.hooks.accepted["a"]


async def test_a_fenced_commit_drops_the_shard_and_its_workers(rig: Rig) -> None:
    """Once somebody else holds the shard nothing more of it is sent from here, though the lease still looks good."""
    gate = asyncio.Event()
    rig.hooks.behaviours["a"] = partial(_gated, gate)
    await rig.subscribe("a", max_in_flight=1)
    replica = await rig.started()
    number = shard_of("a")
    await wait_until(lambda: _is_quiet(replica.shards[number]))
    replica.leases.tick = asyncio.Event().wait  # type: ignore[assignment]  # it learns nothing
    await rig.store.leases._client.hset("{relay}:lease", shard_resource(number), "99999999999999:other:99999999999999")
    await rig.minter.mint(5)
    await wait_until(lambda: len(rig.hooks.hits["a"]) == 1)
    await wait_until(lambda: number not in replica.shards)
    assert replica.leases.shard_token(number) is not None
    gate.set()
    await wait_until(lambda: not rig.hooks.open["a"])
    await asyncio.sleep(0.05)
    assert len(rig.hooks.hits["a"]) == 1


def _is_quiet(shard: Any) -> bool:
    """Whether it has begun, and has nothing to commit."""
    begun = all(lane.live for lane in shard.lanes.values())
    return begun and not (shard.touched or shard.group or shard.unconfirmed or shard.put_off_after)


async def _gated(gate: asyncio.Event, _: Hit) -> int:
    await gate.wait()
    return 200


async def test_a_zombie_sends_nothing(rig: Rig) -> None:
    """A replica that was paused past its lease begins no attempt, though its queue is full."""
    gate = asyncio.Event()
    rig.hooks.behaviours["a"] = partial(_gated, gate)
    await rig.subscribe("a", max_in_flight=2)
    replica = await rig.started()
    ids = await rig.minter.mint(50)
    await wait_until(lambda: len(rig.hooks.hits["a"]) == 2)
    replica.leases.tick = asyncio.Event().wait  # type: ignore[assignment]  # the store does not answer
    await asyncio.sleep(0.1)  # a tick under way has ended
    replica.clock.ahead_s = 10.0
    gate.set()
    await wait_until(lambda: not rig.hooks.open["a"])
    await rig.minter.mint(5)
    await asyncio.sleep(0.05)
    assert len(rig.hooks.hits["a"]) == 2
    await replica.crash()
    await rig.started(after=[replica])
    await rig.all_accepted("a", ids)


async def test_a_pause_that_cost_no_lease_does_not_stop_a_lane(rig: Rig) -> None:
    """A replica that was paused past its trust and gets the same lease back goes on with what it had queued."""
    gate = asyncio.Event()
    rig.hooks.behaviours["a"] = partial(_gated, gate)
    await rig.subscribe("a", max_in_flight=1)
    replica = await rig.started()
    ids = await rig.minter.mint(20)
    await wait_until(lambda: len(rig.hooks.hits["a"]) == 1)
    token = replica.leases.shard_token(shard_of("a"))
    tick = replica.leases.tick
    replica.leases.tick = partial(asyncio.sleep, 0)  # type: ignore[method-assign]  # no answer for a while
    await asyncio.sleep(0.1)
    replica.clock.ahead_s = 7.0
    gate.set()
    await wait_until(lambda: not rig.hooks.open["a"])
    assert replica.leases.shard_token(shard_of("a")) is None
    replica.leases.tick = tick  # type: ignore[method-assign]
    await rig.all_accepted("a", ids)
    assert token == replica.leases.shard_token(shard_of("a"))


@pytest.mark.parametrize("behaviour", [None, refuse])
async def test_a_subscriber_deleted_in_flight_leaves_nothing_behind(rig: Rig, behaviour: Behaviour | None) -> None:
    """Its queue is dropped, its retries and its cursor go, and the others notice nothing."""
    slow = asyncio.Event()

    async def behave(hit: Hit) -> int:
        if len(rig.hooks.hits["a"]) > 20:
            await slow.wait()
        return await behaviour(hit) if behaviour else 200

    rig.hooks.behaviours["a"] = behave
    await rig.subscribe("a", max_in_flight=4, retry_schedule_s=(0.05, 60, 60))
    await rig.subscribe("b")
    replica = await rig.started()
    ids = await rig.minter.mint(60)
    await wait_until(lambda: rig.hooks.open["a"] == 4)
    await rig.unsubscribe("a")
    await wait_until(lambda: "a" not in replica.shards[shard_of("a")].lanes)
    slow.set()
    ids += await rig.minter.mint(5)
    await rig.all_accepted("b", ids)
    assert len(rig.hooks.hits["a"]) < 30

    async def clean() -> bool:
        return "a" not in await rig.store.deliveries.cursors(shard_of("a"))

    await wait_until(clean)


async def test_a_disabled_subscriber_does_not_keep_others_retries_waiting(rig: Rig) -> None:
    """Retries that were queued for it are let go, and nothing is lost when it comes back."""
    await rig.subscribe("a", max_in_flight=1, timeout_s=30)
    replica = await rig.started()
    ids = await rig.minter.mint(100)
    await rig.all_accepted("a", ids)
    await rig.committed("a")
    gate = asyncio.Event()
    rig.hooks.behaviours["a"] = partial(_gated, gate)
    shard = replica.shards[shard_of("a")]
    entries = await rig.store.log.before(None, 100)
    shard.group = Group(due={str(Waiting("a", entry.place, 2)): 0 for entry in entries})
    shard.wake_by(0)
    replica.dispatcher._board.dirty.set()
    replica.dispatcher._board.due.set()
    await wait_until(lambda: len(shard.claimed) > 20)
    await rig.change(msgspec.structs.replace(rig._subscribers["a"], enabled=False))
    await wait_until(lambda: not shard.lanes["a"].queued)
    gate.set()
    assert len(await rig._waiting("a")) >= 98
    await rig.change(msgspec.structs.replace(rig._subscribers["a"], enabled=True))
    await rig.committed("a")


async def test_a_store_that_lost_its_latest_commits_is_read_again(rig: Rig) -> None:
    """A failover takes the last commits with it while the dispatcher lives on: no retry and no cursor is lost."""
    refusing = True

    async def refuse(_: Hit) -> int:
        return 500 if refusing else 200

    await rig.subscribe("a", retry_schedule_s=(0.3,) * 10)
    await rig.subscribe("quiet")
    rig.hooks.behaviours["a"] = refuse
    await rig.started()
    first = await rig.minter.mint(3)
    await rig.all_accepted("quiet", first)
    shard = shard_of("a")
    keys = (f"{{relay}}:cur:{shard}", f"{{relay}}:rq:{shard}", f"{{relay}}:att:{shard}")
    saved = {key: await rig.store.client.dump(key) for key in keys}
    ids = first + await rig.minter.mint(3)
    await wait_until(lambda: set(ids) <= {hit.event_id for hit in rig.hooks.hits["a"]})
    await asyncio.sleep(0.1)  # what came of them is committed
    for key, dump in saved.items():
        await rig.store.client.delete(key)
        if dump is not None:
            await rig.store.client.restore(key, 0, dump)
    refusing = False
    await rig.minter.mint(1)
    await rig.all_accepted("a", ids)
    await rig.committed("a")


async def test_a_store_that_was_away_for_longer_than_a_lease_loses_no_result(rig: Rig) -> None:
    """The same token comes back to the same holder; what it commits then is not taken for a repeat."""
    await rig.subscribe("a", retry_schedule_s=(0.1,) * 10)
    replica = await rig.started()
    for _ in range(3):
        ids = await rig.minter.mint(1)
        await rig.all_accepted("a", ids)
        await rig.committed("a")
        before = replica.shards[shard_of("a")]
        replica.clock.ahead_s += 60  # the process was paused past its trust in the lease
        replica.leases._expire()
        await wait_until(lambda before=before: replica.shards.get(shard_of("a")) not in (None, before))
        failed = False

        async def once(_: Hit) -> int:
            nonlocal failed
            failed, before_that = True, failed
            return 200 if before_that else 500

        rig.hooks.behaviours["a"] = once
        ids = await rig.minter.mint(1)
        await rig.all_accepted("a", ids)
        await rig.committed("a")
        del rig.hooks.behaviours["a"]
