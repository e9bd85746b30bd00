"""Learning which events wait for which: it takes as long as it takes, and nobody else notices."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from relay.core.log import BEHIND_MS, SHELVED_MS, START, Place, Waiting
from relay.store.deliveries import DeliveryStore
from relay.store.delivery_state import Order, Redelivered
from relay.store.keys import shard_of
from relay.store.log import LogStore
from tests.helpers import wait_until
from tests.service.rig import Hit, Rig, failing_first
from tests.service.test_dispatcher_stalls import settle_by_hand

FAR_MS = 4_000_000_000_000
"""A due time that does not come during a test (2096)."""


def named(like: str, *, near: bool) -> str:
    """A subscriber of the same shard, or of another one."""
    return next(f"n{at}" for at in range(10_000) if (shard_of(f"n{at}") == shard_of(like)) is near)


class Gate:
    """Holds up whoever looks up the entities of retries, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, least: int = 1) -> None:
        self.opened, self.reached = asyncio.Event(), asyncio.Event()
        read = LogStore.entities

        async def entities(store: LogStore, places: Sequence[Place]) -> Any:
            if len(places) >= least:
                self.reached.set()
                await self.opened.wait()
            return await read(store, places)

        monkeypatch.setattr(LogStore, "entities", entities)


async def test_sorting_one_lane_holds_up_nobody(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it goes on, others of the shard and of other shards are sent to, retried, sorted, fed and committed."""
    near, far = named("big", near=True), named("big", near=False)
    await rig.subscribe("big", ordering="entity", event_types=("lab.big",))
    ids = await rig.minter.mint(40, "lab.big", entities=("x",))
    entries = await rig.store.log.after(START, await rig.store.log.end(), 40)
    due = {str(Waiting("big", one.place, 1)): BEHIND_MS for one in entries[1:]}
    await settle_by_hand(rig, "big", {**due, str(Waiting("big", entries[0].place, 2)): FAR_MS})
    for name in (near, far):
        rig.hooks.behaviours[name] = failing_first(1)
        await rig.subscribe(name, ordering="entity", event_types=("lab.small",), retry_schedule_s=(0.05,) * 9)
    small = await rig.minter.mint(30, "lab.small", entities=("a", "b"))
    gate = Gate(monkeypatch, least=40)
    replica = await rig.started()
    await asyncio.wait_for(gate.reached.wait(), 5)
    for name in (near, far):
        await rig.all_accepted(name, small)
        await rig.committed(name)
    lane = replica.shards[shard_of("big")].lanes["big"]
    assert lane.unsorted
    assert not rig.hooks.hits["big"]
    gate.opened.set()
    await wait_until(lambda: not lane.unsorted)
    redelivered = await rig.store.deliveries.redeliver("big", [Order(entries[0].place, "waiting", 2)])
    assert redelivered == [Redelivered.DONE]
    await rig.all_accepted("big", ids)
    await rig.committed("big")
    assert list(rig.hooks.accepted["big"]) == ids


async def test_what_is_made_due_during_the_sorting_takes_its_turn(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier event, long settled, is asked for again when the retries have been read: it goes first."""
    await rig.subscribe("s", ordering="entity")
    ids = await rig.minter.mint(6, entities=("x",))
    entries = await rig.store.log.after(START, await rig.store.log.end(), 6)
    later = {str(Waiting("s", one.place, 1)): BEHIND_MS for one in entries[4:]}
    await settle_by_hand(rig, "s", {**later, str(Waiting("s", entries[3].place, 2)): FAR_MS})
    gate = Gate(monkeypatch)
    await rig.started()
    await asyncio.wait_for(gate.reached.wait(), 5)
    orders = [*(Order(one.place, "settled") for one in entries[:3]), Order(entries[3].place, "waiting", 2)]
    assert await rig.store.deliveries.redeliver("s", orders) == [Redelivered.DONE] * 4
    gate.opened.set()
    await rig.all_accepted("s", ids)
    await rig.committed("s")
    assert rig.hooks.order("s") == ids


async def test_only_another_ordering_has_a_lane_sorted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is changed about a subscriber, nothing is read for it, and its order is kept."""
    subscriber = await rig.subscribe("s", ordering="entity", retry_schedule_s=(0.01,) * 50)
    replica = await rig.started()
    lane = replica.shards[shard_of("s")].lanes["s"]
    await wait_until(lambda: lane._chains is not None)
    chains, scans = lane._chains, list[int]()
    scan = DeliveryStore.scan

    def counted(store: DeliveryStore, shard: int, names: Any) -> Any:
        scans.append(shard)
        return scan(store, shard, names)

    monkeypatch.setattr(DeliveryStore, "scan", counted)
    rig.hooks.behaviours["s"] = failing_first(1)
    ids = await rig.minter.mint(12, entities=("x",))
    for change in ({"description": "new"}, {"headers": {"X-A": "b"}}, {"max_in_flight": 3}, {"rate_per_s": 500.0}):
        subscriber = msgspec.structs.replace(subscriber, **change)
        await rig.change(subscriber)
        await wait_until(lambda wanted=subscriber: lane.receiver.subscriber == wanted)
    await rig.all_accepted("s", ids)
    assert list(rig.hooks.accepted["s"]) == ids
    assert lane._chains is chains
    assert scans == []
    await rig.change(msgspec.structs.replace(subscriber, ordering="none"))
    await wait_until(lambda: lane._chains is None and not lane.unsorted)
    assert scans == [shard_of("s")]


async def test_an_order_that_is_given_up_releases_what_waits_part_by_part(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that was parked may go at once: no commit grows with it, and all of it is sent."""
    monkeypatch.setattr("relay.dispatcher.lane.LANE_FULL", 4)
    subscriber = await rig.subscribe("s", ordering="entity")
    ids = await rig.minter.mint(80, entities=("x",))
    entries = await rig.store.log.after(START, await rig.store.log.end(), 80)
    due = {str(Waiting("s", one.place, 1)): BEHIND_MS for one in entries[1:]}
    await settle_by_hand(rig, "s", {**due, str(Waiting("s", entries[0].place, 2)): FAR_MS})
    most, commit = [0], DeliveryStore.commit

    async def measured(
        store: DeliveryStore, shard: int, token: int, mark: object, group: Any, *rest: Any, **more: Any
    ) -> None:
        most.append(len(group.due))
        await commit(store, shard, token, mark, group, *rest, **more)

    monkeypatch.setattr(DeliveryStore, "commit", measured)
    replica = await rig.started()
    lane = replica.shards[shard_of("s")].lanes["s"]
    await wait_until(lambda: lane._chains is not None)
    await rig.change(msgspec.structs.replace(subscriber, ordering="none"))
    await rig.all_accepted("s", ids[1:])
    assert max(most) <= 12


async def test_a_held_lock_holds_up_no_other_shard(rig: Rig) -> None:
    """Whatever keeps one shard from committing, the others commit; it does once it can."""
    near, far = "a", named("a", near=False)
    for name in (near, far):
        await rig.subscribe(name)
    replica = await rig.started()
    async with replica.shards[shard_of(near)].lock:
        ids = await rig.minter.mint(5)
        for name in (near, far):
            await rig.all_accepted(name, ids)
        await rig.committed(far, timeout_s=3)
        assert await rig._cursor(near) < await rig.store.log.end()
    await rig.committed(near)


async def test_what_was_put_off_is_read_in_portions(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard is taken up at once; its shelves, however long, are found bit by bit, and all of them are sent."""
    monkeypatch.setattr("relay.dispatcher.holdings.PUT_OFF", 7)
    read, sizes, gate = DeliveryStore.waiting_after, list[int](), asyncio.Event()

    async def waiting_after(store: DeliveryStore, shards: Sequence[int], after: tuple[int, str], count: int) -> Any:
        if [*shards] == [shard_of("a")] and after != (SHELVED_MS, ""):
            await gate.wait()
        page = await read(store, shards, after, count)
        sizes.append(len(page))
        return page

    monkeypatch.setattr(DeliveryStore, "waiting_after", waiting_after)
    near = named("a", near=False)
    for name in ("a", near):
        await rig.subscribe(name)
    ids = await rig.minter.mint(60)
    entries = await rig.store.log.after(START, await rig.store.log.end(), 60)
    marks = [SHELVED_MS] * 40 + [BEHIND_MS] * 20  # an order was kept by the last holder, and is no longer wished for
    due = {str(Waiting("a", one.place, 2)): mark for one, mark in zip(entries, marks, strict=True)}
    await settle_by_hand(rig, "a", due)
    await rig.started()
    more = await rig.minter.mint(3)
    await rig.all_accepted("a", more)
    gate.set()
    await rig.all_accepted("a", ids)
    await rig.committed("a")
    assert max(sizes) == 7
    assert sum(sizes) == 60
    assert set(rig.hooks.accepted["a"].values()) == {1}


async def test_a_million_events_of_a_few_entities_are_not_all_parked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as attempts begin, no more is read than may wait; the log keeps the rest, in order."""
    monkeypatch.setattr("relay.dispatcher.chains.BEHIND", 30)
    monkeypatch.setattr("relay.dispatcher.chains.STILL_S", 5.0)
    most = [0]

    async def slowly(_: Hit) -> int:
        await asyncio.sleep(0.002)
        most.append(lane._chains.behind)
        return 200

    await rig.subscribe("s", ordering="entity")
    ids = await rig.minter.mint(400, entities=("x", "y"))
    rig.hooks.behaviours["s"] = slowly
    replica = await rig.replica()
    replica.start()
    await replica.ready()
    lane = replica.shards[shard_of("s")].lanes["s"]
    await rig.all_accepted("s", ids, 20)
    await rig.committed("s")
    for entity in (0, 1):
        assert [one for one in rig.hooks.accepted["s"] if ids.index(one) % 2 == entity] == ids[entity::2]
    assert 15 < max(most) <= 32


async def test_behind_a_crowd_that_stands_still_others_are_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One entity's first event waits for a day, and hundreds wait for it: those of others come all the same."""
    monkeypatch.setattr("relay.dispatcher.chains.BEHIND", 20)
    monkeypatch.setattr("relay.dispatcher.chains.PORTION", 20)
    monkeypatch.setattr("relay.dispatcher.chains.STILL_S", 0.05)
    monkeypatch.setattr("relay.dispatcher.chains.MOST_BEHIND", 150)
    await rig.subscribe("s", ordering="entity", retry_schedule_s=(3600,))
    stuck: set[str] = set()

    async def behave(hit: Hit) -> int:
        return 422 if hit.event_id in stuck else 200

    rig.hooks.behaviours["s"] = behave
    replica = await rig.replica()
    first = await rig.minter.mint(100, entities=("x",))
    others = await rig.minter.mint(5, entities=("y",))
    await rig.minter.mint(200, entities=("x",))
    beyond = await rig.minter.mint(1, entities=("z",))
    stuck.add(first[0])
    replica.start()
    await rig.all_accepted("s", others)
    shard = shard_of("s")

    def behind() -> int:
        chains = replica.shards[shard].lanes["s"]._chains
        return 0 if chains is None else int(chains.behind)

    await wait_until(lambda: behind() == 150)
    await asyncio.sleep(0.2)
    assert behind() == 150
    assert not set(beyond) & rig.hooks.accepted["s"].keys()
