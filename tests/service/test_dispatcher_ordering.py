"""`ordering: "entity"`: one entity's events never overtake each other, whatever fails; the other entities flow."""

import asyncio
import random
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest

from relay.core.log import BEHIND_MS
from relay.store.deliveries import DeliveryStore
from relay.store.delivery_state import Order
from relay.store.keys import SHARDS, shard_of
from tests.helpers import wait_until
from tests.service.rig import Behaviour, Hit, Replica, Rig, failing_first, refuse

LABS = ("a", "b", "c")


def first_accepted(rig: Rig, name: str) -> list[str]:
    """Ids in the order in which they were first answered with a 2xx."""
    return list(rig.hooks.accepted[name])


def in_order(accepted: Sequence[str], ids: Sequence[str], entities: int = len(LABS)) -> bool:
    """Whether each entity's events came in the order in which they were minted, in turn."""
    place = {event_id: at for at, event_id in enumerate(ids)}
    return all(
        earlier < later
        for entity in range(entities)
        for earlier, later in pairwise(
            [place[one] for one in accepted if one in place and place[one] % entities == entity]
        )
    )


def refusing(ids: set[str]) -> Behaviour:
    """Refuse some events, as long as they are in this set."""

    async def behave(hit: Hit) -> int:
        return 422 if hit.event_id in ids else 200

    return behave


async def parked(rig: Rig, name: str) -> int:
    """How many deliveries wait for an earlier one."""
    return sum(due == BEHIND_MS for _, due in await rig.store.deliveries.waiting_of(name))


async def test_order_is_kept_while_attempts_fail_at_random(rig: Rig) -> None:
    """convoy#1525, polar#6771: half of all attempts fail or are slow; an entity's events come one after the other."""
    rng = random.Random(11)

    async def moody(_: Hit) -> int:
        await asyncio.sleep(rng.random() / 200)
        return 200 if rng.random() < 0.5 else 500

    rig.hooks.behaviours["s"] = moody
    await rig.subscribe("s", ordering="entity", max_in_flight=8, retry_schedule_s=(0.01,) * 50)
    await rig.started()
    ids = await rig.minter.mint(150, entities=LABS)
    await rig.all_accepted("s", ids, 30)
    await rig.committed("s")
    assert in_order(first_accepted(rig, "s"), ids)
    assert rig.hooks.most_open["s"] <= len(LABS)


async def test_other_entities_flow_while_one_is_stuck(rig: Rig) -> None:
    """The cursor passes what waits for its turn, and once the first is taken the rest follows in order."""
    stuck: set[str] = set()
    rig.hooks.behaviours["s"] = refusing(stuck)
    await rig.subscribe("s", ordering="entity", retry_schedule_s=(0.05,) * 200)
    replica = await rig.replica()
    ids = await rig.minter.mint(120, entities=LABS)
    stuck.add(ids[0])
    replica.start()
    others = [one for at, one in enumerate(ids) if at % 3]
    await rig.all_accepted("s", others)
    end = await rig.store.log.end()
    await wait_until(lambda: _reached(rig, "s", end))
    assert await parked(rig, "s") == 39
    stuck.clear()
    await rig.all_accepted("s", ids)
    await rig.committed("s")
    assert in_order(first_accepted(rig, "s"), ids)


async def _reached(rig: Rig, name: str, end: object) -> bool:
    return bool(await rig._cursor(name) == end)


async def test_a_dead_letter_does_not_block_for_ever(rig: Rig) -> None:
    """Once the schedule of an event is exhausted it is a dead letter, and the next event of its entity goes."""
    dead: set[str] = set()
    rig.hooks.behaviours["s"] = refusing(dead)
    await rig.subscribe("s", ordering="entity", retry_schedule_s=(0.02, 0.02))
    replica = await rig.replica()
    ids = await rig.minter.mint(30, entities=LABS)
    dead |= {ids[0], ids[4], ids[5]}
    replica.start()
    await rig.all_accepted("s", [one for one in ids if one not in dead])
    await rig.committed("s")
    assert in_order(first_accepted(rig, "s"), ids)
    assert len(await rig.store.deliveries.dead("s", 0, 10)) == 3
    for one in dead:
        assert rig.hooks.order("s").count(one) == 3


async def test_nothing_follows_a_dead_letter_before_it_is_on_record(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a crash would have it attempted again, after the events that had followed it."""
    await rig.subscribe("s", ordering="entity", retry_schedule_s=(0.01,))
    replica = await rig.started()
    ids = await rig.minter.mint(1, entities=("a",))
    await rig.all_accepted("s", ids)
    await rig.committed("s")
    rig.hooks.behaviours["s"] = refuse
    commit, lost = DeliveryStore.commit, asyncio.Event()

    async def fails_with_the_death(self: DeliveryStore, shard: int, token: int, *rest: object, **more: object) -> None:
        if any(one.dead for one in rest if hasattr(one, "dead")):
            lost.set()
            raise ConnectionError
        await commit(self, shard, token, *rest, **more)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(DeliveryStore, "commit", fails_with_the_death)
    monkeypatch.setattr("relay.dispatcher.service.STORE_ERRORS", (ConnectionError,))
    more = await rig.minter.mint(4, entities=("a",))
    await asyncio.wait_for(lost.wait(), 5)
    await asyncio.sleep(0.05)
    await replica.crash()
    assert set(rig.hooks.order("s")) == {*ids, more[0]}
    monkeypatch.setattr(DeliveryStore, "commit", commit)
    del rig.hooks.behaviours["s"]
    await rig.started(after=[replica])
    await rig.all_accepted("s", more)
    assert ids + more == first_accepted(rig, "s")


@pytest.mark.parametrize("crash", [True, False], ids=["killed", "drained"])
async def test_order_survives_a_takeover(rig: Rig, crash: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The successor finds in the store what waits for what, and sends nothing before its turn."""
    rig.hooks.behaviours["s"] = failing_first(2)
    await rig.subscribe("s", ordering="entity", max_in_flight=4, retry_schedule_s=(0.03,) * 20)
    ids = await rig.minter.mint(90, entities=LABS)
    dead: list[Replica] = []
    for at in range(4):
        replica = await rig.started(after=dead)
        await wait_until(lambda at=at: len(rig.hooks.accepted["s"]) >= at * 8)
        await (replica.crash() if crash else replica.leave())
        dead.append(replica)
    await rig.started(after=dead)
    await rig.all_accepted("s", ids, 30)
    await rig.committed("s")
    assert in_order(first_accepted(rig, "s"), ids)


async def test_a_slow_attempt_keeps_its_turn_and_holds_up_nobody_else(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is under way its entity waits in the store, the cursor moves on, and a successor waits for it too."""
    monkeypatch.setattr("relay.dispatcher.shard.SLOW_S", 0.05)
    release = asyncio.Event()
    slow: list[str] = []

    async def behave(hit: Hit) -> int:
        if hit.event_id in slow:
            await release.wait()
        return 200

    rig.hooks.behaviours["s"] = behave
    await rig.subscribe("s", ordering="entity")
    replica = await rig.replica()
    ids = await rig.minter.mint(30, entities=LABS)
    slow.append(ids[0])
    replica.start()
    await rig.all_accepted("s", [one for at, one in enumerate(ids) if at % 3])
    end = await rig.store.log.end()
    await wait_until(lambda: _reached(rig, "s", end))
    assert len(rig.hooks.accepted["s"]) == 20
    release.set()
    await rig.all_accepted("s", ids)
    await rig.committed("s")
    assert in_order(first_accepted(rig, "s"), ids)


async def test_a_redelivery_takes_its_place_in_the_order(rig: Rig) -> None:
    """Events that are sent again are sent in order too, and before what still waits."""
    dead: set[str] = set()
    rig.hooks.behaviours["s"] = refusing(dead)
    await rig.subscribe("s", ordering="entity", retry_schedule_s=(0.01,))
    replica = await rig.replica()
    ids = await rig.minter.mint(12, entities=("a",))
    dead |= {*ids[:4]}
    replica.start()
    await rig.all_accepted("s", ids[4:])
    await rig.committed("s")
    letters = [place for place, _ in await rig.store.deliveries.dead("s", 0, 10)]
    assert len(letters) == 4
    dead.clear()
    before = len(rig.hooks.order("s"))
    await rig.store.deliveries.redeliver("s", [Order(place, "dead") for place in letters])
    await rig.all_accepted("s", ids)
    assert ids[:4] == rig.hooks.order("s")[before:]


async def test_ordering_may_be_changed(rig: Rig) -> None:
    """From none to entity, and back: what waits is neither lost nor stuck, and from then on the order is kept."""
    stuck: set[str] = set()
    rig.hooks.behaviours["s"] = refusing(stuck)
    subscriber = await rig.subscribe("s", retry_schedule_s=(0.05,) * 200)
    replica = await rig.replica()
    ids = await rig.minter.mint(30, entities=LABS)
    stuck |= {ids[0], ids[1]}
    replica.start()
    await rig.all_accepted("s", ids[2:])
    await rig.change(msgspec.structs.replace(subscriber, ordering="entity"))
    lane = replica.shards[shard_of("s")].lanes["s"]
    await wait_until(lambda: lane._chains is not None)
    later = await rig.minter.mint(30, entities=LABS)
    await rig.all_accepted("s", [one for at, one in enumerate(later) if at % 3 == 2])
    await wait_until(lambda: _parks(rig, "s", 20))
    assert not rig.hooks.accepted["s"].keys() & {one for at, one in enumerate(later) if at % 3 != 2}
    await rig.change(msgspec.structs.replace(subscriber, description="as it came"))
    await rig.all_accepted("s", later)
    stuck.clear()
    await rig.all_accepted("s", ids)
    await rig.committed("s")


async def _parks(rig: Rig, name: str, count: int) -> bool:
    return await parked(rig, name) == count


async def test_what_waits_goes_away_with_its_subscriber(rig: Rig) -> None:
    """Nothing that waits for an earlier event stays behind in the store."""
    rig.hooks.behaviours["s"] = refuse
    await rig.subscribe("s", ordering="entity", retry_schedule_s=(3600,))
    await rig.started()
    await rig.minter.mint(30, entities=LABS)
    await wait_until(lambda: _parks(rig, "s", 27))
    await rig.unsubscribe("s")
    await wait_until(lambda: _parks(rig, "s", 0))


async def test_orphans_are_swept(rig: Rig) -> None:
    """Also if its subscriber was deleted while nobody held the shard; what belongs to others stays."""
    rig.hooks.behaviours["s"] = rig.hooks.behaviours["t"] = refuse
    for name in ("s", "t"):
        await rig.subscribe(name, ordering="entity", retry_schedule_s=(3600,))
    replica = await rig.started()
    await rig.minter.mint(30, entities=LABS)
    for name in ("s", "t"):
        await wait_until(lambda name=name: _parks(rig, name, 27))
    await replica.crash()
    await rig.unsubscribe("s")
    await rig.store.registry.drop_orphans(range(SHARDS))
    assert await parked(rig, "s") == 0
    assert await parked(rig, "t") == 27
