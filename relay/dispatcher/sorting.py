"""Which events of a lane wait for which: learnt from the store while everything else goes on.

Invariant: a lane sends nothing before this is known. So what was read of it stays true meanwhile, and nothing has to be
locked: its commits are in the store, no attempt of it is under way, and what others make due comes as it would later.

A shard's retries are looked through once for all its lanes that ask, and those of whom little waits go first. However
much there is, it is taken in portions: nobody else notices.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import islice

from relay.core.log import BEHIND_MS, Place, Waiting
from relay.dispatcher.board import Board
from relay.dispatcher.lane import Lane
from relay.dispatcher.shard import Shard
from relay.store.deliveries import DeliveryStore
from relay.store.log import LogStore

PORTION = 256
"""So many retries are looked up at a time: some milliseconds."""
RUN = 2000
"""So many are brought into order at a time, before these are merged."""

Stored = tuple[Waiting, int]
"""A retry, and the Unix ms at which it is due."""


class Sorting:
    """Lets lanes learn the order of their entities, or forget it, as their subscribers wish."""

    def __init__(
        self,
        board: Board,
        log_store: LogStore,
        deliveries: DeliveryStore,
        *,
        commit: Callable[[Shard], Awaitable[None]],
        resume: Callable[[Shard, Lane], None],
    ) -> None:
        self._board = board
        self._log = log_store
        self._deliveries = deliveries
        self._commit = commit
        self._resume = resume

    async def turn(self, number: int) -> None:
        """Sort the lanes of one shard that ask for it; the shards do not wait for each other."""
        wanted = self._board.unsorted[number]
        await wanted.wait()
        wanted.clear()
        shard = self._board.shards.get(number)
        if shard is None:
            return
        try:
            await self._sort_all(shard)
        except BaseException:
            wanted.set()
            raise

    async def _sort_all(self, shard: Shard) -> None:
        lanes = {lane.id: lane for lane in shard.lanes.values() if lane.to_be_sorted}
        await self._commit(shard)  # what they have come to
        stored: dict[str, dict[Waiting, int]] = {one: {} for one in lanes}
        async for page in self._deliveries.scan(shard.number, lanes):
            for one, due_ms in page:
                stored[one.subscriber_id][one] = due_ms
            await asyncio.sleep(0)
        for name, retries in sorted(stored.items(), key=lambda one: len(one[1])):
            await self._sort(shard, lanes[name], list(retries.items()))

    async def _sort(self, shard: Shard, lane: Lane, stored: Sequence[Stored]) -> None:
        """Let a lane go by what the store lists of it; what waits for nothing any more goes as there is room."""
        wish = lane.receiver.subscriber.ordering
        chains = lane.new_chains() if wish == "entity" else None
        released: list[str] = []
        async for some in _in_order(stored):
            entities = await self._log.entities([one.place for one, _ in some]) if chains else [None] * len(some)
            for (one, due_ms), entity in zip(some, entities, strict=True):
                if chains and entity:
                    chains.load(one, due_ms, entity)
                elif due_ms >= BEHIND_MS:  # no order is wished for, or the event has outlived its retention
                    released.append(str(one))
        if lane.closed or self._board.shards.get(shard.number) is not shard:
            return None
        if lane.receiver.subscriber.ordering != wish:
            return self._board.unsorted[shard.number].set()
        shard.claimed.difference_update(item.retry for item in lane.items() if item.retry)
        lane.sort(chains)
        lane.shelf.update(dict.fromkeys(released))
        self._resume(shard, lane)
        return None


async def _in_order(stored: Sequence[Stored]) -> AsyncIterator[list[Stored]]:
    """Portions in the order of the log; there may be a million, and a moment for each portion is all it takes."""
    runs: list[list[Stored]] = []
    for at in range(0, len(stored), RUN):
        runs.append(sorted(stored[at : at + RUN], key=_place))
        await asyncio.sleep(0)
    merged = heapq.merge(*runs, key=_place)
    while some := list(islice(merged, PORTION)):
        yield some
        await asyncio.sleep(0)


def _place(one: Stored) -> Place:
    return one[0].place
