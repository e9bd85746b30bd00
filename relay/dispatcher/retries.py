"""Deliveries whose next attempt is due. Nothing is asked of the store until the first one is."""

import asyncio

from relay.core.log import Waiting
from relay.dispatcher.board import Board
from relay.dispatcher.shard import Shard
from relay.dispatcher.workers import Workers
from relay.leases import Leases
from relay.store.deliveries import DeliveryStore
from relay.store.log import LogStore

BATCH = 200
MAX_CLAIMED = 4000
CROWDED_MS = 100
"""When more is due than is taken up at once, the next look comes this much later."""
UNCOMMITTED_MS = 25
"""What is due at once stands in the store only after the next commit, which also says so."""


class Retries:
    """Queues due retries in their lanes."""

    def __init__(
        self, board: Board, deliveries: DeliveryStore, log_store: LogStore, workers: Workers, leases: Leases
    ) -> None:
        self._board = board
        self._deliveries = deliveries
        self._log = log_store
        self._workers = workers
        self._leases = leases

    async def turn(self) -> None:
        """Queue what is due, then sleep until the next one is."""
        self._board.due.clear()
        now_ms = self._leases.now_ms()
        for shard in list(self._board.shards.values()):
            if shard.wake_ms is not None and shard.wake_ms <= now_ms:
                async with shard.lock:
                    await self._queue(shard, now_ms)
        wakes = [shard.wake_ms for shard in self._board.shards.values() if shard.wake_ms is not None]
        pause_s = max((min(wakes) - self._leases.now_ms()) / 1000, 0.001) if wakes else None
        try:
            async with asyncio.timeout(pause_s):
                await self._board.due.wait()
        except TimeoutError:
            return

    async def _queue(self, shard: Shard, now_ms: int) -> None:
        limit = BATCH + len(shard.claimed)
        if limit > MAX_CLAIMED:
            shard.wake_ms = now_ms + CROWDED_MS
            return
        shard.wake_ms = None  # so that a wake-up that comes while the store is asked is not written over
        try:
            await self._look(shard, now_ms, limit)
        except BaseException:
            shard.wake_by(now_ms)
            raise

    async def _look(self, shard: Shard, now_ms: int, limit: int) -> None:
        listed = await self._deliveries.due(shard.number, now_ms, limit)
        later = await self._deliveries.next_due_ms([shard.number], now_ms)
        next_ms = now_ms + CROWDED_MS if len(listed) == limit else later.get(shard.number)
        if next_ms is not None:
            shard.wake_by(next_ms)
        for due in (shard.group.due, shard.unconfirmed.due if shard.unconfirmed else {}):
            for due_ms in due.values():
                shard.wake_by(max(due_ms, now_ms + UNCOMMITTED_MS))
        if shard.unconfirmed and any(str(one) in shard.unconfirmed.done for one in listed):
            shard.wake_by(now_ms + CROWDED_MS)  # one that is being settled may have been asked for again
        waiting = [one for one in listed if not shard.is_taken(str(one))]
        if waiting:
            await self._queue_fresh(shard, self._wanted(shard, waiting), now_ms)
        if len(listed) < limit:
            self._clear_shelves(shard, now_ms)

    def _wanted(self, shard: Shard, waiting: list[Waiting]) -> list[Waiting]:
        """What may be queued now; the rest is dropped or shelved without being read.

        A lane that is full takes from its shelf as it has room: what would be looked at again after a while would
        stand before everybody else's each time.
        """
        found: list[Waiting] = []
        rooms = {one.subscriber_id: lane.room for one in waiting if (lane := shard.lanes.get(one.subscriber_id))}
        for one in waiting:
            lane = shard.lanes.get(one.subscriber_id)
            if lane is None:  # the subscriber is gone
                shard.group.done.add(str(one))
            elif not lane.wants_retries or rooms[lane.id] <= 0:
                shard.shelve(lane, str(one))
            else:
                rooms[lane.id] -= 1
                found.append(one)
        self._board.dirty.set()
        return found

    def _clear_shelves(self, shard: Shard, now_ms: int) -> None:
        """Go on with the shelves of those who can be sent to: a release takes only a part."""
        for lane in shard.lanes.values():
            if lane.shelf and not (lane.paused or lane.resting or lane.breaker.is_open) and lane.room:
                if shard.group.due:
                    shard.wake_by(now_ms + CROWDED_MS)  # one part with each commit
                else:
                    shard.unshelve(lane, now_ms)
                    self._board.dirty.set()

    async def _queue_fresh(self, shard: Shard, waiting: list[Waiting], now_ms: int) -> None:
        entries = await self._log.at([one.place for one in waiting]) if waiting else []
        for one, entry in zip(waiting, entries, strict=True):
            lane, retry = shard.lanes.get(one.subscriber_id), str(one)
            if lane is not None:
                lane.shelf.pop(retry, None)  # it may have been asked for while it stood there
            if lane is None or not lane.wants_retries:
                shard.wake_by(now_ms)  # that has changed while the events were read
            elif entry is None or entry.erased:  # the event has outlived its retention, or may not be sent any more
                shard.group.done.add(retry)
                if entry is None:
                    shard.group.dead.append((lane.id, now_ms, one.place))
                lane.lost(one.place)
                shard.touched.add(lane)
            else:
                shard.claimed.add(retry)
                lane.offer_retry(entry, one)
                shard.touched.add(lane)
                self._workers.employ(shard, lane)
        self._board.dirty.set()  # there may be losses to commit, and orders to go on with
