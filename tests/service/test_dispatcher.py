"""The dispatcher with nothing in its way: who gets what, how often, in which order."""

import asyncio
from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from standardwebhooks import Webhook

from relay.core.subscriber import Filter
from relay.store.keys import shard_of
from tests.helpers import wait_until
from tests.service.rig import SCHEDULE_S, SECRET, Hit, Rig, failing_first, refuse


async def test_every_subscriber_gets_every_event_once_and_can_verify_it(rig: Rig) -> None:
    """In the good case each matching event arrives exactly once, signed so that an independent library agrees."""
    for name in ("a", "b"):
        await rig.subscribe(name)
    await rig.started()
    ids = await rig.minter.mint(30)
    for name in ("a", "b"):
        await rig.all_accepted(name, ids)
    await rig.committed("a", "b")
    assert Counter(ids) == rig.hooks.accepted["a"] == rig.hooks.accepted["b"]
    assert len(rig.hooks.hits["a"]) == 30
    hit = rig.hooks.hits["a"][0]
    said = Webhook(SECRET).verify(hit.body, hit.headers)
    assert said["data"]["event_id"] == hit.event_id


async def test_events_minted_while_nobody_delivers_arrive_later(rig: Rig) -> None:
    """The log keeps what is minted while no dispatcher runs."""
    await rig.subscribe("a")
    ids = await rig.minter.mint(300)
    await rig.started()
    await rig.all_accepted("a", ids)
    assert Counter(ids) == rig.hooks.accepted["a"]


async def test_types_and_filters_decide_who_gets_what(rig: Rig) -> None:
    """svix#2058: a subscriber gets what its patterns cover and its filter lets through, and nothing else."""
    await rig.subscribe("scores", event_types=("lab.scored",))
    await rig.subscribe("mine", filter=Filter(user_ids=("u2",)))
    await rig.started()
    completed = await rig.minter.mint(5)
    scored = await rig.minter.mint(5, "lab.scored")
    mine = await rig.minter.mint(5, user="u2")
    await rig.all_accepted("scores", scored)
    await rig.all_accepted("mine", mine)
    await rig.committed("scores", "mine")
    assert set(completed) & (rig.hooks.accepted["scores"].keys() | rig.hooks.accepted["mine"].keys()) == set()
    assert Counter(mine) == rig.hooks.accepted["mine"]


async def test_a_later_subscriber_gets_later_events_only(rig: Rig) -> None:
    """Registration is the beginning: what was minted before is not sent."""
    await rig.subscribe("early")
    await rig.started()
    before = await rig.minter.mint(5)
    await rig.subscribe("late")
    after = await rig.minter.mint(5)
    await rig.all_accepted("early", before + after)
    await rig.all_accepted("late", after)
    await rig.committed("late")
    assert Counter(after) == rig.hooks.accepted["late"]


async def test_a_disabled_subscriber_keeps_its_place(rig: Rig) -> None:
    """While it is disabled nothing is sent; once it is enabled it gets everything that it missed, in order."""
    subscriber = await rig.subscribe("a", max_in_flight=1)
    await rig.subscribe("other")
    replica = await rig.started()
    first = await rig.minter.mint(3)
    await rig.all_accepted("a", first)
    off = msgspec.structs.replace(subscriber, enabled=False)
    await rig.change(off)
    await wait_until(lambda: replica.shards[shard_of("a")].lanes["a"].paused)
    missed = await rig.minter.mint(20)
    await rig.all_accepted("other", first + missed)
    assert len(rig.hooks.hits["a"]) == 3
    await rig.change(msgspec.structs.replace(subscriber, description="on"))
    await rig.all_accepted("a", missed)
    assert first + missed == rig.hooks.order("a")


async def test_a_retry_comes_by_the_schedule_with_the_same_id(rig: Rig) -> None:
    """A refused event is sent again, never early, lengthened by a fifth at the most (and what a busy machine adds)."""
    rig.hooks.behaviours["a"] = failing_first(2)
    await rig.subscribe("a")
    await rig.started()
    (event_id,) = await rig.minter.mint(1)
    await rig.all_accepted("a", [event_id])
    await rig.committed("a")
    assert [event_id] * 3 == rig.hooks.order("a")
    times = [hit.at for hit in rig.hooks.hits["a"]]
    waits = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert all(wait >= planned for wait, planned in zip(waits, SCHEDULE_S, strict=True))
    assert all(wait < planned * 1.2 + 1 for wait, planned in zip(waits, SCHEDULE_S, strict=True))
    groups = await rig.store.deliveries.attempts(shard_of("a"))
    attempts = sorted(one.attempt_no for _, group in groups for one in group)
    assert attempts == [1, 2, 3]


async def test_an_exhausted_schedule_ends_as_a_dead_letter(rig: Rig) -> None:
    """After the last attempt the event is listed as dead, and the cursor has moved on long before."""
    rig.hooks.behaviours["a"] = refuse
    await rig.subscribe("a")
    await rig.started()
    await rig.minter.mint(2)
    await wait_until(lambda: len(rig.hooks.hits["a"]) == 6)
    await rig.committed("a")
    assert len(await rig.store.deliveries.dead("a", 0, 10)) == 2


async def test_a_slow_attempt_is_parked_and_still_succeeds_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor does not wait for a slow answer; when it comes, nothing is sent again."""
    monkeypatch.setattr("relay.dispatcher.shard.SLOW_S", 0.05)
    release = asyncio.Event()

    async def behave(_: Hit) -> int:
        if len(rig.hooks.hits["a"]) == 1:
            await release.wait()
        return 200

    rig.hooks.behaviours["a"] = behave
    await rig.subscribe("a")
    await rig.started()
    slow = await rig.minter.mint(1)
    await wait_until(lambda: len(rig.hooks.hits["a"]) == 1)
    quick = await rig.minter.mint(5)
    await rig.all_accepted("a", quick)

    async def parked() -> bool:
        return await rig._cursor("a") >= await rig.store.log.end() and len(await rig._waiting("a")) == 1

    await wait_until(parked)
    release.set()
    await rig.all_accepted("a", slow)
    await rig.committed("a")
    assert Counter(slow + quick) == rig.hooks.accepted["a"]


async def test_attempts_in_flight_never_exceed_the_cap(rig: Rig) -> None:
    """A slow subscriber never sees more attempts at once than it allowed, retries included; the others do not wait."""

    async def behave(hit: Hit) -> int:
        await asyncio.sleep(0.01)
        return 200 if rig.hooks.order("a").count(hit.event_id) > 1 else 500

    rig.hooks.behaviours["a"] = behave
    await rig.subscribe("a", max_in_flight=3)
    await rig.subscribe("b")
    await rig.started()
    ids = await rig.minter.mint(40)
    await rig.all_accepted("b", ids)
    await rig.all_accepted("a", ids)
    assert rig.hooks.most_open["a"] == 3


async def test_a_lane_far_behind_catches_up_in_order(rig: Rig) -> None:
    """A subscriber that falls behind keeps little in memory, and is fed from the log in order, without a hole."""
    gate = asyncio.Event()

    async def behave(_: Hit) -> int:
        await gate.wait()
        return 200

    rig.hooks.behaviours["a"] = behave
    await rig.subscribe("a", max_in_flight=1, timeout_s=60)
    await rig.subscribe("b")
    replica = await rig.started()
    ids = await rig.minter.mint(1400)
    lane = replica.shards[shard_of("a")].lanes["a"]
    await rig.all_accepted("b", ids, 20)  # all of it has passed by
    assert not lane.live
    assert lane.queued <= 33, "sixteen for the attempt under way, sixteen for one more, and one"
    gate.set()
    await rig.all_accepted("a", ids, 20)
    more = await rig.minter.mint(3)
    await rig.all_accepted("a", more)
    await rig.committed("a")
    assert ids + more == rig.hooks.order("a")


async def test_control_messages_reach_the_replica(rig: Rig) -> None:
    """What is announced in the control stream, such as `poll now`, arrives."""
    replica = await rig.started()
    await rig.store.log.announce("poll", "lod")
    await wait_until(lambda: ("poll", "lod") in replica.controls)
