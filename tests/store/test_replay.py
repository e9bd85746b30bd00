"""REPLAY: begun once, carried on by fenced steps that may be repeated, ended once."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from relay.core.log import START, Place, Waiting
from relay.core.replay import Ending, Only, Plan
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.deliveries import SHARD_CURSOR, Group
from relay.store.keys import Keys, shard_of
from relay.store.replays import KEPT, Marked, Step, Verdict
from tests.service.replaying import plan_of
from tests.store.minting import Minter

SHARD = shard_of("a")
FAR_MS = 4_000_000_000_000
NOW_MS = 1_700_000_000_000
"""A time that has long passed."""
HIGHEST = 11
SUBSCRIBER = Subscriber(id="a", url="http://127.0.0.1:9")


@pytest.fixture
async def store(redis_client: Redis) -> Store:
    """Provide a store with subscriber `a`, registered before six events that its cursor has passed."""
    store = Store(redis_client)
    await store.registry.create(SUBSCRIBER)
    await Minter(store).mint(6)
    end = await store.log.end()
    await commit(store, Group(cursors={SHARD_CURSOR: end}, caught_up={"a"}))
    return store


async def token(store: Store) -> int:
    """The fencing token of the shard's holder."""
    return (await store.leases.tick("a", "deliver", (), [SHARD], ttl_ms=60_000)).tokens[f"shard.{SHARD}"]


async def commit(store: Store, group: Group) -> None:
    """Settle a group, as the holder of the shard."""
    number = int(await store.client.incr("number"))
    await store.deliveries.commit(SHARD, await token(store), number, group, 0)


async def places(store: Store) -> list[Place]:
    """Where the events stand."""
    return [one.place for one in reversed(await store.log.before(None, 10))]


async def begun(store: Store, only: Only = "all") -> Plan:
    """Begin a replay of everything."""
    plan = plan_of("a", only, START, await store.log.end())
    assert await store.replays.begin(plan) == plan.id
    return plan


async def step(
    store: Store, plan: Plan, events: Sequence[Place] | Marked, at: Place = START, reach: Place | None = None
) -> Step:
    """Make one step past these events, which are sent if all is done."""
    marked: Any = [one if isinstance(one[0], Place) else (one, True) for one in events]
    return await store.replays.step(plan, await token(store), at, reach or plan.until, marked, HIGHEST)


async def waiting(store: Store) -> dict[str, int]:
    """Retries with their due times."""
    return {str(one): due for one, due in await store.deliveries.waiting(SHARD, 0, 100)}


async def stand(store: Store, plan: Plan) -> tuple[Place, int, int]:
    """Where a replay has come to: place, matched, sent."""
    replay = await store.replays.get("a", plan.id)
    assert replay is not None
    return replay.at, replay.matched, replay.sent


async def standings(store: Store) -> list[Place]:
    """Let the events stand in every way: done, dead, due, waiting for long, done, and queued (beyond the cursor)."""
    where = await places(store)
    _, dead, due, later, _, queued = where
    group = Group(dead=[("a", NOW_MS, dead)], cursors={"a": where[4]})
    group.due = {str(Waiting("a", due, 2)): NOW_MS, str(Waiting("a", later, HIGHEST)): FAR_MS}
    await commit(store, group)
    assert queued > where[4]
    return where


async def test_one_replay_at_a_time(store: Store) -> None:
    """Who comes second is told which one runs; a repeat is harmless; an unknown subscriber has none."""
    plan = await begun(store)
    other = plan_of("a", "all", START, plan.until)
    assert await store.replays.begin(other) == plan.id
    assert await store.replays.begin(plan) == plan.id
    assert await store.replays.begin(plan_of("nobody", "all", START, plan.until)) == ""
    assert await store.replays.running() == {"a": plan.id}
    assert [one.plan for one in await store.replays.of("a")] == [plan]
    assert await store.replays.end(plan.subscriber_id, plan.id, Ending("cancelled", 5))
    assert await store.replays.begin(other) == other.id


async def test_every_replica_is_told_of_the_beginning_and_the_end(store: Store) -> None:
    """Both are in the control stream."""
    start = await store.log.control_end()
    plan = await begun(store)
    await store.replays.end("a", plan.id, Ending("done", 5))
    news = await store.log.wait(await store.log.end(), start, block_ms=1)
    assert [(kind, value) for _, kind, value in news.control] == [("replay", "a")] * 2


async def test_only_the_first_end_counts(store: Store) -> None:
    """Whoever ends it again changes nothing, and a step after it sends nothing."""
    plan = await begun(store)
    assert await store.replays.end(plan.subscriber_id, plan.id, Ending("cancelled", 5))
    assert not await store.replays.end(plan.subscriber_id, plan.id, Ending("done", 6))
    replay = await store.replays.get("a", plan.id)
    assert replay is not None
    assert replay.ending == Ending("cancelled", 5)
    assert (await step(store, plan, await places(store))).verdict is Verdict.STOPPED
    assert await waiting(store) == {}


async def test_the_latest_are_remembered(store: Store) -> None:
    """Finished ones beyond that are forgotten, with every field of theirs."""
    made = []
    for number in range(KEPT + 3):
        plan = plan_of("a", "all", START, START, created_ms=number)
        assert await store.replays.begin(plan) == plan.id
        await store.replays.end(plan.subscriber_id, plan.id, Ending("done", number))
        made.append(plan.id)
    assert [one.plan.id for one in await store.replays.of("a")] == made[: -KEPT - 1 : -1]
    assert await store.client.hlen(Keys().replays("a")) == 5 * KEPT


async def test_all_makes_everything_due_and_stops_before_what_is_queued(store: Store) -> None:
    """Whatever became of it; what the cursor has not passed is left for when it has."""
    done, dead, due, later, again, queued = where = await standings(store)
    plan = await begun(store)
    made = await step(store, plan, where)
    names = [Waiting("a", done, 1), Waiting("a", dead, 1), Waiting("a", due, 2), Waiting("a", later, HIGHEST)]
    assert made == Step(Verdict.OK, 5, (*map(str, names), str(Waiting("a", again, 1))))
    stored, now_ms = await waiting(store), await store.deliveries.now_ms()
    assert stored.keys() == set(made.due)
    assert all(at <= now_ms for at in stored.values())
    assert stored[str(Waiting("a", due, 2))] == NOW_MS
    assert await store.deliveries.dead("a", 0, 10) == []
    assert await stand(store, plan) == (again, 5, 5)
    assert await step(store, plan, [queued], again) == Step(Verdict.OK)
    assert await stand(store, plan) == (again, 5, 5)
    await commit(store, Group(cursors={"a": queued}))
    assert (await step(store, plan, [queued], again)).passed == 1
    assert await stand(store, plan) == (queued, 6, 6)


async def test_undelivered_leaves_what_is_acknowledged_and_what_is_queued(store: Store) -> None:
    """Dead and waiting ones go out, and done ones that are said to be in arrears, unless they were asked for since."""
    done, dead, due, later, missed, queued = await standings(store)
    plan = await begun(store, "undelivered")
    events = [(done, False), (dead, False), (due, False), (later, False), (missed, True), (queued, True)]
    made = await step(store, plan, events)
    names = [Waiting("a", dead, 1), Waiting("a", due, 2), Waiting("a", later, HIGHEST), Waiting("a", missed, 1)]
    assert made == Step(Verdict.OK, 6, tuple(map(str, names)))
    assert await stand(store, plan) == (queued, 6, 4)
    await commit(store, Group(done=set(made.due)))
    await store.replays.end(plan.subscriber_id, plan.id, Ending("done", 5))
    again = await begun(store, "undelivered")
    assert await step(store, again, events) == Step(Verdict.OK, 6)


async def test_a_repeat_and_another_holder_are_told_that_it_has_moved(store: Store) -> None:
    """A step from a place where the record does not stand changes nothing, so none is made twice."""
    where = await places(store)
    plan = await begun(store)
    assert (await step(store, plan, where[:3], reach=where[2])).passed == 3
    await commit(store, Group(done=set(await waiting(store))))
    assert await step(store, plan, where[:3], reach=where[2]) == Step(Verdict.MOVED)
    assert (await waiting(store), await stand(store, plan)) == ({}, (where[2], 3, 3))
    assert (await step(store, plan, where[3:], where[2])).passed == 3


async def test_a_stale_token_is_fenced(store: Store) -> None:
    """Nothing is sent, nothing moves."""
    plan = await begun(store)
    old = await token(store)
    await store.leases.tick("a", "", (), (), ttl_ms=0)
    marked = [(one, True) for one in await places(store)]
    held = await store.leases.tick("b", "deliver", (), [SHARD], ttl_ms=60_000)
    assert old < held.tokens[f"shard.{SHARD}"]
    assert await store.replays.step(plan, old, START, plan.until, marked, HIGHEST) == Step(Verdict.FENCED)
    assert (await waiting(store), await stand(store, plan)) == ({}, (START, 0, 0))


async def test_a_stretch_without_events_moves_on(store: Store) -> None:
    """The record says how far the log was looked at, and nobody is woken."""
    plan = await begun(store)
    start = await store.log.control_end()
    assert await step(store, plan, []) == Step(Verdict.OK)
    assert await stand(store, plan) == (plan.until, 0, 0)
    assert await store.log.control_end() == start


async def test_counting_tells_what_would_be_sent_and_changes_nothing(store: Store) -> None:
    """For `all` what is queued counts, as it goes out again after it has gone out."""
    where = await standings(store)
    before = await waiting(store)
    marked = [(one, False) for one in where]
    assert await store.replays.count("a", "all", marked, HIGHEST) == 6
    assert await store.replays.count("a", "undelivered", marked, HIGHEST) == 3
    assert await waiting(store) == before
    assert len(await store.deliveries.dead("a", 0, 10)) == 1


async def test_what_was_trimmed_meanwhile_is_passed_by(store: Store) -> None:
    """Its dead letter stays: it must be seen, though it cannot be sent."""
    where = await places(store)
    await commit(store, Group(dead=[("a", NOW_MS, where[0])]))
    plan = await begun(store)
    await store.client.xdel(Keys().log, str(where[0]))
    made = await step(store, plan, where[:2], reach=where[1])
    assert made == Step(Verdict.OK, 2, (str(Waiting("a", where[1], 1)),))
    assert await store.deliveries.dead("a", 0, 10) == [(where[0], NOW_MS)]


async def test_an_unusable_key_leaves_everything_as_it_was(store: Store, redis_client: Redis) -> None:
    """All is read before anything is written: once mended, the same step works."""
    where = await standings(store)
    plan = await begun(store)
    before = await waiting(store)
    for key in (Keys().asked(SHARD), Keys().ctl):
        await redis_client.delete(key)
        await redis_client.set(key, "in the way")
        with pytest.raises(ResponseError):
            await step(store, plan, where)
        assert (await waiting(store), await stand(store, plan)) == (before, (START, 0, 0))
        assert len(await store.deliveries.dead("a", 0, 10)) == 1
        await redis_client.delete(key)
    assert (await step(store, plan, where)).passed == 5


async def test_a_deleted_subscriber_takes_its_replays_along(store: Store) -> None:
    """Neither a record nor a running one is left, and a step of it is told so."""
    plan = await begun(store)
    where = await places(store)
    await store.registry.delete(SUBSCRIBER)
    assert (await store.replays.of("a"), await store.replays.running()) == ([], {})
    assert await step(store, plan, where) == Step(Verdict.STOPPED)
    assert not await store.replays.end(plan.subscriber_id, plan.id, Ending("done", 5))
    changed = msgspec.structs.replace(SUBSCRIBER, description="registered anew")
    await store.registry.create(changed)
    assert (await store.replays.of("a"), await waiting(store)) == ([], {})
