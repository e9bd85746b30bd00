"""What was erased leaves the queues of a replica, however much is told and however much waits there."""

import asyncio

import pytest

from relay.clock import SystemClock
from relay.core.envelope import Receiver, SigningKey
from relay.core.log import START, Entry, Place
from relay.core.subscriber import Subscriber
from relay.dispatcher.board import Board
from relay.dispatcher.erased import KEPT_S, Erased
from relay.dispatcher.lane import Lane
from relay.dispatcher.shard import Shard

LANES, EVENTS = 10, 20


class Clock(SystemClock):
    """A clock that stands still until a test moves it."""

    at = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.at


def entry(number: int) -> Entry:
    """An event that says something."""
    return Entry(Place(1000, number), f"evt_{number}", "lab.completed", "lod", "1", b"{}", b"")


def filled() -> tuple[Board, list[Lane]]:
    """A board with lanes in which the same events wait."""
    board, shard = Board(), Shard(0, 1, None, mark="")
    for number in range(LANES):
        subscriber = Subscriber(id=f"sub_{number}", url="https://lms.example.org/")
        lane = shard.lanes[subscriber.id] = Lane(Receiver(subscriber, [SigningKey(b"k" * 32)]), START, committed=None)
        for each in range(EVENTS):
            lane.offer(entry(each), START)
    board.shards[0] = shard
    return board, list(shard.lanes.values())


async def test_the_queues_are_gone_through_once_for_many_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of them is sent from the message on; they are emptied after it, and others have their turn meanwhile."""
    board, lanes = filled()
    erased, seen, items, turns = Erased(board, Clock()), list[Lane](), Lane.items, 0

    def watched(self: Lane) -> object:
        seen.append(self)
        return items(self)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(Lane, "items", watched)
    for each in range(EVENTS // 2):
        erased.tell([Place(1000, each)])
    assert seen == []
    assert all(erased.holds(item) == (item.entry.place.no < EVENTS // 2) for item in items(lanes[0]))
    task = asyncio.create_task(others())
    await erased.turn()
    task.cancel()
    assert seen == lanes
    assert turns >= LANES
    for lane in lanes:
        assert [item.entry.erased for item in items(lane)] == [number < EVENTS // 2 for number in range(EVENTS)]


async def test_what_comes_late_from_the_store_is_emptied_before_its_place_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A read that began before the message ends after it: a queue never keeps what nobody remembers as erased."""
    monkeypatch.setattr("relay.dispatcher.erased.KEPT_S", 0.02)
    board, lanes = filled()
    clock = Clock()
    erased = Erased(board, clock)
    erased.tell([Place(1000, EVENTS)])
    await erased.turn()
    lanes[0].offer(entry(EVENTS), START)
    item = lanes[0].items()[-1]
    assert (item.entry.erased, erased.holds(item)) == (False, True)
    clock.at = KEPT_S
    await erased.turn()
    assert item.entry.erased
    lanes[1].offer(entry(EVENTS), START)
    assert not erased.holds(lanes[1].items()[-1])
