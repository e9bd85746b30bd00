"""No lane stands still for ever: whatever is changed, lost or told at the wrong moment, it goes on by itself."""

import asyncio
from typing import Any

import msgspec
import pytest
from redis.exceptions import ConnectionError as StoreConnectionError

from relay.core.log import BEHIND_MS, SHELVED_MS, Waiting
from relay.store.deliveries import DeliveryStore, Group
from relay.store.delivery_state import Order
from relay.store.keys import shard_of
from relay.store.log import LogStore
from tests.helpers import wait_until
from tests.service.rig import Hit, Rig, refuse

BREAKER = True


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.core.breaker.Breaker.__init__.__defaults__", (0, None, False, 0.1))
    monkeypatch.setattr("relay.core.breaker.LONGEST_PAUSE_S", 0.2)


async def settle_by_hand(rig: Rig, name: str, due: dict[str, int]) -> None:
    """Put these among the retries, and the subscriber's cursor at the end of the log."""
    number = shard_of(name)
    held = await rig.store.leases.tick("gone", "deliver", (), [number], ttl_ms=60_000)
    group = Group(cursors={name: await rig.store.log.end()}, due=due)
    await rig.store.deliveries.commit(number, held.tokens[f"shard.{number}"], "by hand", group, 0)
    await rig.store.leases.tick("gone", "", (), (), ttl_ms=0)


async def test_a_late_success_ends_the_rest(rig: Rig) -> None:
    """The breaker opens while an attempt is out that succeeds: what was shelved goes now."""
    late = asyncio.Event()
    well = False

    async def behave(hit: Hit) -> int:
        if hit.event_id == ids[0]:
            await late.wait()
            return 200
        return 200 if well else 500

    ids: list[str] = []
    rig.hooks.behaviours["a"] = behave
    await rig.subscribe("a", max_in_flight=16, retry_schedule_s=(0.02,) * 100)
    replica = await rig.started()
    lane = replica.shards[shard_of("a")].lanes["a"]
    lane.window.size = 256
    ids += await rig.minter.mint(16)
    await wait_until(lambda: lane.resting and lane.shelf)
    lane.breaker.open_until = 1e12  # it has asked for a long pause
    replica.dispatcher._board.rests.clear()
    well = True
    late.set()
    await rig.all_accepted("a", ids)
    await rig.committed("a")


async def test_what_is_made_due_while_a_shard_is_taken_up_is_not_overlooked(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order to send it again comes between the reading of the shard and the beginning of the work on it."""
    await rig.subscribe("a")
    ids = await rig.minter.mint(1)
    entry = await rig.store.log.find(ids[0])
    assert entry is not None
    await settle_by_hand(rig, "a", {})
    read, ordered, seen = DeliveryStore.take_up, asyncio.Event(), asyncio.Event()

    async def take_up(self: DeliveryStore, shard: int) -> Any:
        found = await read(self, shard)
        if shard == shard_of("a") and not ordered.is_set():
            ordered.set()
            await rig.store.deliveries.redeliver("a", [Order(entry.place, "settled")])
            await asyncio.wait_for(seen.wait(), 5)
        return found

    replica = await rig.replica()
    told = replica.dispatcher._tail._on_control

    def tell(kind: str, value: str) -> None:
        told(kind, value)
        seen.set()

    replica.dispatcher._tail._on_control = tell
    monkeypatch.setattr(DeliveryStore, "take_up", take_up)
    replica.start()
    await rig.all_accepted("a", ids)


async def test_what_is_redelivered_from_the_shelf_is_sent_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves as a probe, and succeeds: it is not made due once more with what else stood on the shelf."""
    rig.hooks.behaviours["a"] = refuse
    await rig.subscribe("a", max_in_flight=16, retry_schedule_s=(0.02,) * 100)
    replica = await rig.started()
    lane = replica.shards[shard_of("a")].lanes["a"]
    lane.window.size = 256
    ids = await rig.minter.mint(20)
    await wait_until(lambda: lane.resting and len(lane.shelf) >= 5)
    names = [Waiting.parse(one.encode()) for one in lane.shelf]
    await wait_until(lambda: _are_shelved(rig, {*lane.shelf}))
    monkeypatch.setattr("relay.dispatcher.lane.PROBES", 1000)
    others = lane.drop_retries(0)
    del rig.hooks.behaviours["a"]
    await rig.store.deliveries.redeliver("a", [Order(one.place, "waiting", one.attempt_no) for one in names])
    await wait_until(lambda: rig.hooks.accepted["a"])
    shard = replica.shards[shard_of("a")]
    shard.claimed.difference_update(others)
    shard.wake_by(1)
    replica.dispatcher._board.due.set()
    await rig.all_accepted("a", ids)
    await rig.committed("a")
    assert set(rig.hooks.accepted["a"].values()) == {1}


async def _are_shelved(rig: Rig, names: set[str]) -> bool:
    stored = {str(one): due for one, due in await rig.store.deliveries.waiting_of("a")}
    return all(stored.get(one) == SHELVED_MS for one in names)


async def test_the_shelf_is_probed_with_when_nothing_else_is_left(rig: Rig) -> None:
    """The retries that were at hand as probes are dead letters; it comes back, and nothing new is minted."""
    await rig.subscribe("a", retry_schedule_s=(3600,))
    ids = await rig.minter.mint(20)
    entries = await rig.store.log.before(None, 20)
    await settle_by_hand(rig, "a", {str(Waiting("a", one.place, 2)): 1 for one in entries})
    rig.hooks.behaviours["a"] = refuse
    await rig.started()

    async def dead() -> bool:
        return len(await rig.store.deliveries.dead("a", 0, 20)) >= 12

    await wait_until(dead)
    del rig.hooks.behaviours["a"]
    letters = [place for place, _ in await rig.store.deliveries.dead("a", 0, 20)]
    lost = {one.event_id for one in await rig.store.log.at(letters) if one}
    await rig.all_accepted("a", sorted(set(ids) - lost), 5)


async def test_who_rests_keeps_hardly_any_retries_in_memory(rig: Rig) -> None:
    """However many were queued when the breaker opened: those of the shard's others are not left unread for them."""
    await rig.subscribe("a", retry_schedule_s=(3600,) * 5)
    await rig.minter.mint(150)
    entries = await rig.store.log.before(None, 150)
    await settle_by_hand(rig, "a", {str(Waiting("a", one.place, 2)): 1 for one in entries})
    rig.hooks.behaviours["a"] = refuse
    replica = await rig.started()
    shard = replica.shards[shard_of("a")]
    await wait_until(lambda: shard.lanes["a"].resting)
    assert len(shard.claimed) <= 5


async def test_a_change_of_ordering_that_nobody_saw_leaves_nothing_behind(rig: Rig) -> None:
    """The order was kept when the last holder died, and is no longer wished for when the next one begins."""
    await rig.subscribe("a", ordering="none")
    ids = await rig.minter.mint(3, entities=("x",))
    entries = await rig.store.log.before(None, 3)
    await settle_by_hand(rig, "a", {str(Waiting("a", one.place, 1)): BEHIND_MS for one in entries})
    await rig.started()
    await rig.all_accepted("a", ids)
    await rig.committed("a")


async def test_due_retries_of_a_lane_that_is_being_sorted_do_not_hide_its_neighbours(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may have to wait for a slow attempt to end; those of others in the shard are found meanwhile."""
    monkeypatch.setattr("relay.dispatcher.retries.BATCH", 10)
    near = next(f"n{at}" for at in range(10_000) if shard_of(f"n{at}") == shard_of("a"))
    release = asyncio.Event()

    async def hang(_: Hit) -> int:
        await release.wait()
        return 200

    rig.hooks.behaviours["a"] = hang
    subscriber = await rig.subscribe("a", ordering="entity", timeout_s=30.0)
    await rig.subscribe(near)
    replica = await rig.started()
    ids = await rig.minter.mint(40)
    await rig.all_accepted(near, ids)
    await rig.committed(near)
    await wait_until(lambda: len(rig.hooks.hits["a"]) == 1)
    lane = replica.shards[shard_of("a")].lanes["a"]
    try:
        await rig.change(msgspec.structs.replace(subscriber, ordering="none"))
        await wait_until(lambda: lane.unsorted)
        entries = await rig.store.log.before(None, 40)
        for name, some in (("a", entries[:30]), (near, entries[:1])):
            await rig.store.deliveries.redeliver(name, [Order(one.place, "settled") for one in some])
        await wait_until(lambda: rig.hooks.accepted[near][entries[0].event_id] == 2)
    finally:
        release.set()


async def test_a_disabled_subscriber_holds_no_event_in_memory(rig: Rig) -> None:
    """What is not being attempted when it is disabled is read from the log when it is enabled: erased, if it was."""
    rig.hooks.behaviours["a"] = refuse
    subscriber = await rig.subscribe("a", rate_per_s=0.01)
    replica = await rig.started()
    ids = await rig.minter.mint(50)
    lane = replica.shards[shard_of("a")].lanes["a"]
    await wait_until(lambda: lane.queued >= 30)
    await rig.change(msgspec.structs.replace(subscriber, enabled=False))
    await wait_until(lambda: lane.queued == 0)
    del rig.hooks.behaviours["a"]
    await rig.change(msgspec.structs.replace(subscriber, rate_per_s=None, retry_schedule_s=(0.01,)))
    await wait_until(lambda: len(rig.hooks.accepted["a"]) >= 49)
    assert set(ids) >= set(rig.hooks.accepted["a"])


async def test_a_retry_is_found_again_after_the_store_has_failed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is due, and the log cannot be read just then; nothing else would have it looked for again."""
    await rig.subscribe("a")
    ids = await rig.minter.mint(1)
    entries = await rig.store.log.before(None, 1)
    await settle_by_hand(rig, "a", {str(Waiting("a", entries[0].place, 2)): 1})
    read, failed = LogStore.at, asyncio.Event()

    async def at(self: LogStore, places: Any) -> Any:
        if places and not failed.is_set():
            failed.set()
            raise StoreConnectionError
        return await read(self, places)

    monkeypatch.setattr(LogStore, "at", at)
    await rig.started()
    await rig.all_accepted("a", ids)
    assert failed.is_set()


async def test_a_long_shelf_is_cleared_part_by_part(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No commit grows with what has gathered on the shelf, and all of it is sent."""
    monkeypatch.setattr("relay.dispatcher.lane.LANE_FULL", 3)
    await rig.subscribe("a")
    ids = await rig.minter.mint(100)
    entries = await rig.store.log.before(None, 100)
    await settle_by_hand(rig, "a", {str(Waiting("a", one.place, 2)): SHELVED_MS for one in entries})
    most, commit = [0], DeliveryStore.commit

    async def measured(
        self: DeliveryStore, shard: int, token: int, mark: object, group: Group, *rest: Any, **more: Any
    ) -> None:
        most.append(len(group.due))
        await commit(self, shard, token, mark, group, *rest, **more)

    monkeypatch.setattr(DeliveryStore, "commit", measured)
    await rig.started()
    await rig.all_accepted("a", ids)
    await rig.committed("a")
    assert max(most) <= 9


async def test_room_goes_to_somebody_who_can_use_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two who wait for room the first is disabled meanwhile: the second gets it."""
    monkeypatch.setattr("relay.dispatcher.workers.CAPACITY", 1)
    release = asyncio.Event()

    async def hang(_: Hit) -> int:
        await release.wait()
        return 200

    rig.hooks.behaviours["a"] = hang
    for name in ("a", "b", "c"):
        subscriber = await rig.subscribe(name, event_types=(f"lab.{name}",))
        if name == "b":
            second = subscriber
    replica = await rig.started()
    workers = replica.dispatcher._workers
    try:
        for at, name in enumerate(("a", "b", "c")):
            ids = await rig.minter.mint(1, f"lab.{name}")
            await wait_until(lambda at=at: rig.hooks.open["a"] + len(workers._crowded) == at + 1)
        await rig.change(msgspec.structs.replace(second, enabled=False))
        await wait_until(lambda: replica.shards[shard_of("b")].lanes["b"].paused)
    finally:
        release.set()
    await rig.all_accepted("c", ids)
