"""An erasure while events are queued, retried, under way and dead: none is sent any more, others' all are."""

import asyncio
from collections.abc import Iterator
from functools import partial

import msgspec
import pytest
from structlog.testing import capture_logs

from relay.core.erasure import Pseudonyms
from relay.core.log import START
from relay.core.subscriber import Subscriber
from relay.erasure import Erasure
from relay.store.delivery_state import Order
from relay.store.keys import SHARDS, shard_of
from tests.helpers import wait_until
from tests.service.rig import Hit, Rig, refuse
from tests.store.minting import SOURCE, change, event

GONE, OTHER = "learner-to-forget", "learner-who-stays"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replicas hear within milliseconds here, and what is kept is kept for less than a test."""
    monkeypatch.setattr("relay.erasure.SETTLE_S", 0.1)
    monkeypatch.setattr("relay.dispatcher.erased.KEPT_S", 1.0)
    with capture_logs() as lines:
        yield
    assert GONE not in repr(lines)


def erasure(rig: Rig) -> Erasure:
    """An API replica's erasure."""
    return Erasure(rig.store, Pseudonyms([b"k" * 32]), [SOURCE])


async def gated(gate: asyncio.Event, _: Hit) -> int:
    """Hang until the gate opens, then take it."""
    await gate.wait()
    return 200


async def refused_when_open(gate: asyncio.Event, _: Hit) -> int:
    """Hang until the gate opens, then refuse it."""
    await gate.wait()
    return 500


async def mixed(rig: Rig, count: int) -> tuple[list[str], list[str]]:
    """Events of both learners, in turns."""
    gone, kept = [], []
    for _ in range(count):
        gone += await rig.minter.mint(1, user=GONE)
        kept += await rig.minter.mint(1, user=OTHER)
    return gone, kept


async def test_what_is_queued_is_never_sent(rig: Rig) -> None:
    """Behind an attempt that hangs, only the other learner's events are left; nobody loses one of those."""
    names = ("a", "b")
    gate = asyncio.Event()
    for name in names:
        await rig.subscribe(name, max_in_flight=1)
        rig.hooks.behaviours[name] = partial(gated, gate)
    await rig.started()
    (first,) = await rig.minter.mint(1, user=OTHER)
    await wait_until(lambda: all(rig.hooks.hits[name] for name in names))
    gone, kept = await mixed(rig, 15)
    await wait_until(lambda: _queued(rig) == 60)
    report = await erasure(rig).erase(GONE)
    assert report.events == {SOURCE: 15}
    gate.set()
    for name in names:
        await rig.all_accepted(name, [first, *kept])
    await rig.committed(*names)
    assert all(not set(gone) & set(rig.hooks.order(name)) for name in names)


def _queued(rig: Rig) -> int:
    return sum(lane.queued for one in rig.replicas for shard in one.shards.values() for lane in shard.lanes.values())


async def test_what_waits_for_a_rate_is_never_sent_however_long_it_waits(rig: Rig) -> None:
    """The memory of what was erased is shorter than a queue may be; the queue itself forgets the payload."""
    subscriber = await rig.subscribe("a", rate_per_s=0.01)
    replica = await rig.started()
    gone, kept = await mixed(rig, 2)
    await wait_until(lambda: len(rig.hooks.hits["a"]) == 1 and _queued(rig) == 3)
    await erasure(rig).erase(GONE)
    lane = replica.shards[shard_of("a")].lanes["a"]
    assert [item.entry.payload for item in lane.items() if item.entry.event_id in gone] == [b""]
    await rig.change(msgspec.structs.replace(subscriber, rate_per_s=None))
    await rig.all_accepted("a", kept)
    await rig.committed("a")
    assert rig.hooks.order("a") == [gone[0], *kept]


async def test_a_retry_that_is_due_later_is_cancelled_on_whichever_replica_holds_it(rig: Rig) -> None:
    """With two replicas the one that sends need not be the one that erases; the other learner's retries go on."""
    names = [f"subscriber-{number}" for number in range(6)]
    for name in names:
        await rig.subscribe(name, retry_schedule_s=(600,))
        rig.hooks.behaviours[name] = refuse
    for _ in range(2):
        (await rig.replica()).start()
    await wait_until(lambda: all(0 < len(one.shards) < SHARDS for one in rig.replicas), 10, what="both work")
    gone, kept = await mixed(rig, 1)
    await wait_until(lambda: all(len(rig.hooks.hits[name]) == 2 for name in names))
    await rig_has_retries(rig, 12)
    report = await erasure(rig).erase(GONE)
    assert report.retries == {SOURCE: 6}
    rig.hooks.behaviours.clear()
    for name in names:
        await make_due(rig, name, kept)
        await rig.all_accepted(name, kept)
    await rig.committed(*names)
    assert {len(rig.hooks.hits[name]) for name in names} == {3}
    assert not any(rig.hooks.accepted[name][gone[0]] for name in names)


async def make_due(rig: Rig, name: str, event_ids: list[str]) -> None:
    """Have a subscriber's second attempts at these events made now."""
    entries = [await rig.store.log.find(one) for one in event_ids]
    orders = [Order(entry.place, "waiting", 2) for entry in entries if entry]
    await rig.store.deliveries.redeliver(name, orders)


async def rig_has_retries(rig: Rig, count: int) -> None:
    """Wait until so many retries stand in the store."""

    async def stand() -> bool:
        return sum([len(await rig.store.deliveries.waiting(shard, 0, 100)) for shard in range(SHARDS)]) == count

    await wait_until(stand)


async def test_retries_of_a_disabled_subscriber_are_cancelled_too(rig: Rig) -> None:
    """It gets what it missed when it comes back, but not what was erased meanwhile."""
    await rig.subscribe("a", retry_schedule_s=(600,))
    rig.hooks.behaviours["a"] = refuse
    await rig.started()
    gone, kept = await mixed(rig, 2)
    await wait_until(lambda: len(rig.hooks.hits["a"]) == 4)
    await rig_has_retries(rig, 4)
    await rig.change(_enabled(rig, enabled=False))
    await erasure(rig).erase(GONE)
    rig.hooks.behaviours.clear()
    await rig.change(_enabled(rig, enabled=True))
    await make_due(rig, "a", kept)
    await rig.all_accepted("a", kept)
    await rig.committed("a")
    assert not set(gone) & rig.hooks.accepted["a"].keys()


def _enabled(rig: Rig, *, enabled: bool) -> Subscriber:
    return msgspec.structs.replace(rig._subscribers["a"], enabled=enabled)


async def test_an_attempt_under_way_is_the_last(rig: Rig) -> None:
    """It cannot be called back; when it fails, its answer is not kept, and no retry and no dead letter follows."""
    gate = asyncio.Event()
    await rig.subscribe("a", retry_schedule_s=(0.05,))
    rig.hooks.behaviours["a"] = partial(refused_when_open, gate)
    await rig.started()
    gone, _ = await mixed(rig, 1)
    await wait_until(lambda: len(rig.hooks.hits["a"]) == 2)
    await erasure(rig).erase(GONE)
    gate.set()
    await rig.committed("a")
    assert rig.hooks.order("a").count(gone[0]) == 1
    assert len(await rig.store.deliveries.dead("a", 0, 10)) == 1
    groups = await rig.store.deliveries.attempts(shard_of("a"))
    assert {one.body for _, group in groups for one in group if one.event_id == gone[0]} == {b""}


async def test_dead_letters_and_answers_of_the_learner_go(rig: Rig) -> None:
    """Those of the other stay as they were, and can be sent again; the learner's cannot."""
    await rig.subscribe("a", retry_schedule_s=(0.01,))
    rig.hooks.behaviours["a"] = refuse
    await rig.started()
    await mixed(rig, 3)

    async def dead() -> list[object]:
        return list(await rig.store.deliveries.dead("a", 0, 10))

    async def all_dead() -> bool:
        return len(await dead()) == 6

    await wait_until(all_dead)
    await rig.committed("a")
    report = await erasure(rig).erase(GONE)
    assert (report.dead_letters, report.answers, report.retries) == ({SOURCE: 3}, {}, {})
    entries = await rig.store.log.after(START, await rig.store.log.end(), 100)
    assert {place for place, _ in await rig.store.deliveries.dead("a", 0, 10)} == {
        entry.place for entry in entries if not entry.erased
    }
    again = await erasure(rig).erase(GONE)
    assert (again.events, again.dead_letters) == ({}, {})


async def test_an_erasure_that_was_cut_off_is_finished_by_the_next(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stops, all that is left is found again, and deliveries are cancelled before payloads go."""
    await rig.subscribe("a", enabled=False)
    await rig.minter.mint(1200, user=GONE)
    await rig.minter.mint(5, user=OTHER)
    one, calls = erasure(rig), 0
    original = rig.store.erasure.erase

    async def cut_off(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionError
        return await original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(rig.store.erasure, "erase", cut_off)
    with pytest.raises(ConnectionError):
        await one.erase(GONE)
    report = await one.erase(GONE)
    assert report.events == {SOURCE: 700}
    entries = await rig.store.log.after(START, await rig.store.log.end(), 2000)
    assert [entry.erased for entry in entries] == [True] * 1200 + [False] * 5


async def test_what_waits_behind_an_erased_event_goes_on(rig: Rig) -> None:
    """In a lane in which one entity's events keep their order, the erased ones leave it; the others come in order."""
    await rig.subscribe("a", ordering="entity", retry_schedule_s=(600,))
    rig.hooks.behaviours["a"] = refuse
    await rig.started()
    users = [GONE, OTHER, GONE, *[OTHER] * 20, GONE]
    events = [event(number, entity_id="one", user=user) for number, user in enumerate(users)]
    held = await rig.store.leases.tick("minter", "poll", [SOURCE], (), ttl_ms=600_000)
    changes = [(SOURCE, change("one", b"", b"1", *events))]
    await rig.store.snapshots.mint(SOURCE, held.tokens[f"source.{SOURCE}"], 1, changes)
    await wait_until(lambda: rig.hooks.hits["a"])
    await rig_has_retries(rig, len(events))
    report = await erasure(rig).erase(GONE)
    assert (report.events[SOURCE], report.retries[SOURCE]) == (3, 3)
    sent = len(rig.hooks.hits["a"])
    rig.hooks.behaviours.clear()
    kept = [one.id for one, user in zip(events, users, strict=True) if user == OTHER]
    await rig.all_accepted("a", kept)
    await rig.committed("a")
    assert rig.hooks.order("a")[sent:] == kept
