"""What cannot be sent now stands on a shelf: it crowds out nobody's retries there, and is not forgotten there."""

import asyncio
from collections.abc import Sequence

import pytest

from relay.core.log import BEHIND_MS, SHELVED_MS, START, Entry, Place, Waiting
from relay.store.delivery_state import Order
from relay.store.keys import shard_of
from tests.helpers import wait_until
from tests.service.rig import Hit, Rig, refuse
from tests.service.test_dispatcher_stalls import settle_by_hand

BREAKER = True


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.core.breaker.Breaker.__init__.__defaults__", (0, None, False, 0.3))
    monkeypatch.setattr("relay.core.breaker.LONGEST_PAUSE_S", 0.6)
    monkeypatch.setattr("relay.dispatcher.rests.LOOK_AGAIN_S", 0.1)


async def test_what_finds_its_lane_full_stands_before_nobody(rig: Rig) -> None:
    """A thousand redeliveries to a slow subscriber: few are due at a time, so that its neighbours' retries are seen."""
    await rig.subscribe("a", rate_per_s=0.01)
    replica = await rig.started()
    await rig.minter.mint(1000)
    entries = await rig.store.log.after(START, await rig.store.log.end(), 1000)
    for at in range(0, len(entries), 200):
        orders = [Order(one.place, "settled", 0) for one in entries[at : at + 200]]
        await rig.store.deliveries.redeliver("a", orders)
    lane = replica.shards[shard_of("a")].lanes["a"]
    await wait_until(lambda: len(lane.shelf) >= 800)
    await wait_until(lambda: not replica.shards[shard_of("a")].group)

    async def few_are_due() -> bool:
        waiting = await rig.store.deliveries.waiting(shard_of("a"), 0, 2000)
        return sum(due_ms < SHELVED_MS for _, due_ms in waiting) <= 200

    await wait_until(few_are_due)
    await rig.expect_from_now("a")


async def test_probes_that_are_erased_leave_the_shelf_to_others(rig: Rig) -> None:
    """The retries that were kept as probes are erased: the subscriber is tried out with others."""
    await rig.subscribe("a", retry_schedule_s=(3600,) * 5)
    await rig.minter.mint(30)
    entries = (await rig.store.log.before(None, 30))[::-1]
    await settle_by_hand(rig, "a", {str(Waiting("a", one.place, 2)): 1 for one in entries})
    rig.hooks.behaviours["a"] = refuse
    replica = await rig.started()
    lane = replica.shards[shard_of("a")].lanes["a"]
    await wait_until(lambda: lane.resting and lane.shelf and lane.queued == 3)
    kept = {item.entry.place for item in lane.items()}
    await _erase(rig, [one for one in entries if one.place in kept], kept)
    del rig.hooks.behaviours["a"]
    await wait_until(lambda: not lane.shelf and len(rig.hooks.accepted["a"]) >= 20)


async def _erase(rig: Rig, entries: Sequence[Entry], places: set[Place]) -> None:
    await rig.store.log.announce("erased", " ".join(str(one.place) for one in entries))
    await rig.store.erasure.erase(entries)
    await rig.store.erasure.make_due(shard_of("a"), [str(Waiting("a", one, 2)) for one in places])


async def test_probes_that_wait_for_what_is_shelved_let_it_go_first(rig: Rig) -> None:
    """The retries that were kept as probes wait for earlier events of their entities, which stand on the shelf."""
    await rig.subscribe("a", retry_schedule_s=(3600,) * 5, ordering="entity", max_in_flight=1)
    for names in ("x", "filler", "x"):
        await rig.minter.mint(5, entities=[f"{names}{number}" for number in range(5)])
    entries = (await rig.store.log.before(None, 15))[::-1]
    early, others = entries[:5], entries[5:]
    await settle_by_hand(rig, "a", {str(Waiting("a", one.place, 2)): 1 + at for at, one in enumerate(others)})
    go = asyncio.Event()

    async def hang(_: Hit) -> int:
        await go.wait()
        return 500

    rig.hooks.behaviours["a"] = hang
    replica = await rig.started()
    lane = replica.shards[shard_of("a")].lanes["a"]
    await wait_until(lambda: lane.in_flight == 1 and lane.queued == 9)
    await rig.store.deliveries.redeliver("a", [Order(one.place, "settled", 0) for one in early])
    await wait_until(lambda: lane.queued == 14)
    go.set()
    await wait_until(lambda: len(rig.hooks.hits["a"]) >= 5)
    del rig.hooks.behaviours["a"]
    await rig.all_accepted("a", [one.event_id for one in (*early, *others[5:])])


async def test_what_was_lost_is_committed_on_a_quiet_relay(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event is erased while its retry waits, and reading the log takes longer than a commit: the next one goes."""
    await rig.subscribe("a", retry_schedule_s=(3600,) * 5, ordering="entity")
    ids = await rig.minter.mint(2, entities=["x"])
    first, second = (await rig.store.log.before(None, 2))[::-1]
    due_ms = await rig.store.deliveries.now_ms() + 1000
    await settle_by_hand(
        rig, "a", {str(Waiting("a", first.place, 2)): due_ms, str(Waiting("a", second.place, 1)): BEHIND_MS}
    )
    replica = await rig.replica()
    read = replica.store.log.at

    async def slowly(places: Sequence[Place]) -> Sequence[Entry | None]:
        found = await read(places)
        await asyncio.sleep(0.1)
        return found

    monkeypatch.setattr(replica.store.log, "at", slowly)
    replica.start()
    await replica.ready()
    await rig.store.erasure.erase([first])
    await rig.all_accepted("a", ids[1:])
    await rig.expect_from_now("a")
