"""Events that were erased while this replica may still have them in memory: none of them is sent any more.

What is read from the log from now on comes without its payload, and is for nobody. What was read before is queued, on
its way from the store, or under way; so the places are kept for longer than any read or attempt may take. Whatever
waits in a queue is emptied soon after it was told, and once more before the places are let go. An attempt under way
cannot be called back; what it comes to is kept without the subscriber's answer, and is its last.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from relay.clock import Clock, first_of
from relay.core.log import Attempt, Place
from relay.core.retry import Verdict
from relay.dispatcher.board import Board
from relay.dispatcher.item import Item

KEPT_S = 120.0
"""An attempt takes a minute at most, a read from the store some seconds."""


class Erased:
    """The places of what was erased lately."""

    def __init__(self, board: Board, clock: Clock) -> None:
        self._board = board
        self._clock = clock
        self._until: dict[Place, float] = {}
        self._told = asyncio.Event()

    def tell(self, places: Sequence[Place]) -> None:
        """Send none of these from now on."""
        self._until.update(dict.fromkeys(places, self._clock.monotonic() + KEPT_S))
        for shard in self._board.shards.values():
            for group in (shard.group, shard.unconfirmed):
                if group is not None:
                    group.attempts[:] = [self._without_answer(one) for one in group.attempts]
        self._told.set()

    def holds(self, item: Item) -> bool:
        """Whether a delivery is not to be made."""
        return item.entry.erased or item.entry.place in self._until

    def last_of(self, item: Item, attempt: Attempt) -> Attempt:
        """What is kept of an attempt during which its event was erased: no answer, and no attempt after it."""
        if not self.holds(item):
            return attempt
        verdict = attempt.verdict if attempt.verdict == Verdict.DELIVERED else Verdict.RETRY
        return msgspec.structs.replace(attempt, body=b"", next_ms=None, verdict=verdict)

    async def turn(self) -> None:
        """Empty what waits in queues once more was told, and now and then; let go of places whose time is over."""
        await first_of(KEPT_S / 2 if self._until else None, self._told)
        self._told.clear()
        now = self._clock.monotonic()
        await self._empty()
        self._until = {place: until for place, until in self._until.items() if until > now}

    async def _empty(self) -> None:
        """Drop what is remembered of them, wherever it waits: lane by lane, so that nobody waits for all of them."""
        for lane in [lane for shard in self._board.shards.values() for lane in shard.lanes.values()]:
            for item in lane.items():
                if item.entry.place in self._until:
                    item.entry = item.entry.without_payload()
            await asyncio.sleep(0)

    def _without_answer(self, attempt: Attempt) -> Attempt:
        hit = attempt.body and Place.parse(attempt.place) in self._until
        return msgspec.structs.replace(attempt, body=b"") if hit else attempt
