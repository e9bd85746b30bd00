"""What the dispatcher's loops share: the shards that are held, the tail of the log, and what wakes whom."""

import asyncio

from relay.core.log import START, Place
from relay.dispatcher.lane import Lane
from relay.dispatcher.shard import Shard
from relay.store.keys import SHARDS, shard_of


class Board:
    """Shared state of one dispatcher. Everything runs on one event loop, so plain memory is enough."""

    def __init__(self) -> None:
        self.shards: dict[int, Shard] = {}
        self.tail: Place = START
        """The log has been read, and is durable, up to here."""
        self.begun = False
        """Whether the tail is known; before that no lane is fed."""
        self.draining = False
        self.dirty = asyncio.Event()
        """There may be something to commit."""
        self.hungry = asyncio.Event()
        """A lane may be fed from the log."""
        self.unsorted = [asyncio.Event() for _ in range(SHARDS)]
        """A lane of this shard may be sorted."""
        self.forgotten = asyncio.Event()
        """Everything is to be read from the store again."""
        self.rests: dict[Lane, tuple[Shard, float]] = {}
        """Lanes that wait, with the monotonic time at which they may send again."""
        self.rested = asyncio.Event()
        """A lane has begun to wait."""
        self.due = asyncio.Event()
        """The next retry may be due earlier than was thought."""

    def forget(self) -> None:
        """Drop what is remembered of the store, because the store remembers otherwise; it is read again."""
        self.shards.clear()
        self.rests.clear()
        self.forgotten.set()

    def wake_at(self, shard: Shard, lane: Lane, monotonic: float) -> None:
        """Look at a lane again at this time: it waits for its breaker or its rate."""
        self.rests[lane] = (shard, monotonic)
        self.rested.set()

    def find(self, subscriber_id: str) -> tuple[Shard, Lane] | None:
        """The lane of a subscriber, if this replica holds it."""
        shard = self.shards.get(shard_of(subscriber_id))
        lane = shard.lanes.get(subscriber_id) if shard else None
        return (shard, lane) if shard and lane else None
