"""Events that were erased while this replica may still have them in memory: none of them is sent any more.

What is read from the log from now on comes without its payload, and is for nobody. What was read before is queued, on
its way from the store, or under way; so the places are kept for longer than any read or attempt may take, and when
they are let go, whatever still waits in a queue is emptied. An attempt under way cannot be called back; what it comes
to is kept without the subscriber's answer, and is its last.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from relay.clock import Clock
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
        self._some = asyncio.Event()

    def tell(self, places: Sequence[Place]) -> None:
        """Send none of these from now on."""
        self._until.update(dict.fromkeys(places, self._clock.monotonic() + KEPT_S))
        self._empty()
        self._some.set()

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
        """Let go of places whose time is over."""
        await self._some.wait()
        await asyncio.sleep(KEPT_S / 2)
        self._empty()
        now = self._clock.monotonic()
        self._until = {place: until for place, until in self._until.items() if until > now}
        if not self._until:
            self._some.clear()

    def _empty(self) -> None:
        """Drop what is remembered of them, wherever it waits."""
        for shard in self._board.shards.values():
            for lane in shard.lanes.values():
                for item in lane.items():
                    if item.entry.place in self._until:
                        item.entry = item.entry.without_payload()
            for group in (shard.group, shard.unconfirmed):
                if group is not None:
                    group.attempts[:] = [self._without_answer(one) for one in group.attempts]

    def _without_answer(self, attempt: Attempt) -> Attempt:
        hit = attempt.body and Place.parse(attempt.place) in self._until
        return msgspec.structs.replace(attempt, body=b"") if hit else attempt
