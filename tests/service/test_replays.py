"""Replays through a real dispatcher: what is sent again, what is not, and that it is all the same events."""

import asyncio
import random

import msgspec
import pytest

from relay.core.log import Place
from relay.core.replay import Ending
from relay.dispatcher.service import ROOM
from tests.helpers import wait_until
from tests.service.replaying import begin, ended, look, places, times
from tests.service.rig import Behaviour, Hit, Rig, failing_first, refuse


async def test_all_sends_everything_again_with_the_same_ids_and_bodies(rig: Rig) -> None:
    """Asked for at once after the delivery, while the cursor may be behind: each event goes out once more."""
    await rig.subscribe("a")
    replica = await rig.started()
    ids = await rig.minter.mint(250)
    await rig.all_accepted("a", ids)
    plan = await begin(rig, "a", "all")
    replay = await ended(rig, plan)
    assert rig.hooks.accepted["a"] == times(ids, 2)
    bodies = {(hit.event_id, hit.body) for hit in rig.hooks.hits["a"]}
    assert len(bodies) == len(ids)
    assert (replay.status, replay.plan.count, replay.matched, replay.sent) == ("done", 250, 250, 250)
    assert (replay.plan.counted, replay.progress) == (True, 1.0)
    assert replica.metrics.registry.get_sample_value("relay_replayed_deliveries_total") == 250
    again = await begin(rig, "a", "all")
    await ended(rig, again)
    assert rig.hooks.accepted["a"] == times(ids, 3)


async def test_undelivered_sends_dead_letters_and_what_waits_and_nothing_acknowledged(rig: Rig) -> None:
    """What was delivered stays delivered once; a dead letter and a far retry arrive; what was dead is dead no more."""
    subscriber = await rig.subscribe("a", retry_schedule_s=(0.02,))
    await rig.started()
    delivered = await rig.minter.mint(30)
    await rig.all_accepted("a", delivered)
    rig.hooks.behaviours["a"] = refuse
    dead = await rig.minter.mint(30)

    async def all_dead() -> bool:
        return len(await rig.store.deliveries.dead("a", 0, 100)) == 30

    await wait_until(all_dead, 10)
    await rig.change(msgspec.structs.replace(subscriber, retry_schedule_s=(3600.0,)))
    waiting = await rig.minter.mint(30)

    async def all_wait() -> bool:
        return len(await rig._waiting("a")) == 30

    await wait_until(all_wait, 10)
    del rig.hooks.behaviours["a"]
    replay = await ended(rig, await begin(rig, "a", "undelivered"))
    assert rig.hooks.accepted["a"] == times([*delivered, *dead, *waiting], 1)
    assert (replay.status, replay.plan.count, replay.matched, replay.sent) == ("done", 60, 90, 60)
    assert await rig.store.deliveries.dead("a", 0, 100) == []


async def test_undelivered_makes_up_for_what_a_narrower_filter_left_out(rig: Rig) -> None:
    """Events that were no deliveries were not acknowledged; those that an attempt on record delivered were."""
    subscriber = await rig.subscribe("a", event_types=("lab.started",))
    await rig.started()
    started = await rig.minter.mint(20, "lab.started")
    completed = await rig.minter.mint(20, "lab.completed")
    await rig.minter.mint(20, "session.completed")
    await rig.all_accepted("a", started)
    await rig.committed("a")
    later = "2100-01-01T00:00:00.000Z"
    await rig.change(msgspec.structs.replace(subscriber, event_types=("lab.*",), updated_at=later))
    await rig.expect_from_now("a")
    replay = await ended(rig, await begin(rig, "a", "undelivered"))
    assert rig.hooks.accepted["a"] == times([*started, *completed], 1)
    assert (replay.plan.count, replay.matched, replay.sent) == (20, 40, 20)


async def test_the_range_is_exact_and_only_its_types_are_sent(rig: Rig) -> None:
    """After the first place, up to and including the last; what the subscription does not match is never sent."""
    await rig.subscribe("a", event_types=("lab.*",))
    await rig.started()
    ids = await rig.minter.mint(10)
    other = await rig.minter.mint(3, "lab.started")
    await rig.minter.mint(3, "session.started")
    await rig.all_accepted("a", [*ids, *other])
    where = await places(rig, ids)
    await ended(rig, await begin(rig, "a", "all", after=where[2], until=where[6]))
    assert rig.hooks.accepted["a"] == times([*ids, *other], 1) + times(ids[3:7], 1)
    await ended(rig, await begin(rig, "a", "all", event_types=("*.started",)))
    assert rig.hooks.accepted["a"] == times(ids, 1) + times(ids[3:7], 1) + times(other, 2)


async def test_a_replay_that_fails_goes_through_the_schedule(rig: Rig) -> None:
    """A failed redelivery is retried as ever; the replay is done when each was attempted."""
    await rig.subscribe("a")
    await rig.started()
    ids = await rig.minter.mint(20)
    await rig.all_accepted("a", ids)
    rig.hooks.behaviours["a"] = failing_first(1)
    assert (await ended(rig, await begin(rig, "a", "all"))).sent == 20
    await wait_until(lambda: rig.hooks.accepted["a"] == times(ids, 2))


async def test_an_ordered_subscriber_gets_each_entitys_events_in_order(rig: Rig) -> None:
    """Whatever fails: none overtakes an earlier one of its entity, though all of them may stand in one millisecond."""
    ids = await rig.minter.mint(60, entities=("a", "b", "c"))
    await rig.subscribe("a", ordering="entity", retry_schedule_s=(0.01,) * 20)
    await rig.started()
    rng = random.Random(5)

    async def moody(_: Hit) -> int:
        await asyncio.sleep(rng.random() / 500)
        return 200 if rng.random() < 0.7 else 500

    rig.hooks.behaviours["a"] = moody
    assert (await ended(rig, await begin(rig, "a", "all"))).sent == 60
    await rig.all_accepted("a", ids)
    first = list(rig.hooks.accepted["a"])
    assert [[one for one in first if one in ids[at::3]] for at in range(3)] == [ids[at::3] for at in range(3)]


def slowly(seconds: float) -> Behaviour:
    """Answer after a while."""

    async def behave(_: Hit) -> int:
        await asyncio.sleep(seconds)
        return 200

    return behave


async def test_a_live_event_is_not_held_up_by_thousands_that_are_replayed(rig: Rig) -> None:
    """While 5,000 go to a slow subscriber, a new event overtakes them; only a few of those wait at a time."""
    await rig.minter.mint(5000)
    await rig.subscribe("a", max_in_flight=2)
    await rig.started()
    hits = rig.hooks.hits["a"]
    rig.hooks.behaviours["a"] = slowly(0.005)
    plan = await begin(rig, "a", "all")
    for at in (50, 100, 150):
        await wait_until(lambda at=at: len(hits) >= at)
        assert 0 < len(await rig._waiting("a")) <= ROOM
        before = len(hits)
        (live,) = await rig.minter.mint(1)
        await rig.all_accepted("a", [live])
        assert rig.hooks.order("a").index(live) - before <= 12
    stands = await look(rig, plan)
    assert (stands.status, stands.plan.count) == ("running", 5000)
    assert stands.sent < 500
    await rig.store.replays.end(plan.subscriber_id, plan.id, Ending("cancelled", 1))


async def test_a_disabled_subscriber_pauses_it_at_no_cost(rig: Rig) -> None:
    """Nothing is sent and nothing is asked of the store meanwhile; enabled, it goes on where it stood."""
    ids = await rig.minter.mint(300)
    subscriber = await rig.subscribe("a", max_in_flight=2)
    replica = await rig.started()
    rig.hooks.behaviours["a"] = slowly(0.002)
    plan = await begin(rig, "a", "all")
    await wait_until(lambda: len(rig.hooks.hits["a"]) >= 120)
    await rig.change(msgspec.structs.replace(subscriber, enabled=False))
    (work,) = (work for work, _ in replica.replays._works.values())
    await wait_until(lambda: replica.dispatcher.room("a") == 0 and rig.hooks.open["a"] == 0 and work._pause_s > 0.1)
    stands, sent, asked = await look(rig, plan), len(rig.hooks.hits["a"]), await _asked(rig)
    await asyncio.sleep(0.05)
    assert (await look(rig, plan), len(rig.hooks.hits["a"]), await _asked(rig)) == (stands, sent, asked)
    assert stands.status == "running"
    await rig.change(subscriber)
    await ended(rig, plan)
    await rig.all_accepted("a", ids)
    assert rig.hooks.accepted["a"] == times(ids, 1)


async def _asked(rig: Rig) -> int:
    """How often the store was asked what still waits, or what is to be sent."""
    stats = await rig.store.client.info("commandstats")
    return sum(stats[f"cmdstat_{name}"]["calls"] for name in ("zmscore", "xrange"))


async def test_a_cancelled_replay_stops(rig: Rig) -> None:
    """What was handed over goes out, nothing more does, and another replay may begin."""
    await rig.minter.mint(1000)
    await rig.subscribe("a", max_in_flight=2)
    await rig.started()
    rig.hooks.behaviours["a"] = slowly(0.002)
    plan = await begin(rig, "a", "all")
    await wait_until(lambda: len(rig.hooks.hits["a"]) >= 120)
    assert await rig.store.replays.end(plan.subscriber_id, plan.id, Ending("cancelled", 1))
    stands = await look(rig, plan)
    await rig.committed("a")
    assert len(rig.hooks.hits["a"]) == stands.sent < 500
    assert (await look(rig, plan)) == stands
    assert not await rig.store.replays.end(plan.subscriber_id, plan.id, Ending("done", 2))
    assert (await ended(rig, await begin(rig, "a", "all", until=Place(1, 0)))).sent == 0


async def test_a_deleted_subscriber_takes_its_replays_along(rig: Rig) -> None:
    """Nothing is left of them, and nobody stumbles over what was running."""
    await rig.minter.mint(300)
    await rig.subscribe("a", max_in_flight=1)
    replica = await rig.started()
    await begin(rig, "a", "all")
    await wait_until(lambda: len(rig.hooks.hits["a"]) >= 20)
    await rig.unsubscribe("a")
    await wait_until(lambda: not replica.replays._works)
    assert (await rig.store.replays.running(), await rig.store.replays.of("a")) == ({}, [])


async def test_a_changed_filter_holds_for_the_rest_of_the_range(rig: Rig) -> None:
    """What was read for the subscriber as it was is read again: it gets nothing that it no longer wants."""
    await rig.minter.mint(200)
    rest = await rig.minter.mint(300, "lab.started")
    subscriber = await rig.subscribe("a", max_in_flight=2)
    await rig.started()
    rig.hooks.behaviours["a"] = slowly(0.002)
    plan = await begin(rig, "a", "all")
    await wait_until(lambda: len(rig.hooks.hits["a"]) >= 20)
    await rig.change(msgspec.structs.replace(subscriber, event_types=("lab.completed",)))
    await ended(rig, plan)
    assert not set(rest) & set(rig.hooks.order("a"))
    assert len(rig.hooks.hits["a"]) == 200


async def test_what_a_replay_stumbles_over_fails_it_and_ends_nothing_else(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours is told in its record; live events go on, and so may another replay."""
    await rig.subscribe("a")
    await rig.started()
    ids = await rig.minter.mint(5)
    await rig.all_accepted("a", ids)
    with monkeypatch.context() as patched:
        patched.setattr("relay.replays.read_stretch", None)
        replay = await ended(rig, await begin(rig, "a", "all"))
    assert replay.ending is not None
    assert (replay.status, replay.sent, bool(replay.ending.reason)) == ("failed", 0, True)
    await rig.all_accepted("a", await rig.minter.mint(1))
    assert (await ended(rig, await begin(rig, "a", "all"))).sent == 6
