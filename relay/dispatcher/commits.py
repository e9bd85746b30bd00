"""Group commits: what all attempts of a moment came to, one script call per shard."""

import asyncio

import structlog

from relay.clock import Clock
from relay.dispatcher.board import Board
from relay.dispatcher.shard import Shard
from relay.leases import Leases
from relay.store.deliveries import DeliveryStore, LostCommitError
from relay.store.snapshots import FencedError

WINDOW_S = 0.02
PATIENCE_S = 0.05
"""So long a shard whose lock is held may hold up the commits of the others; its own comes another turn."""
IDLE_S = 5.0
"""How long a shard's cursor may lag behind a log in which nothing was for its subscribers."""

log = structlog.get_logger()


class Commits:
    """Settles in the store what the workers have noted."""

    def __init__(
        self, board: Board, deliveries: DeliveryStore, leases: Leases, clock: Clock, *, keep_attempts_s: float
    ) -> None:
        self._board = board
        self._deliveries = deliveries
        self._leases = leases
        self._clock = clock
        self._keep_attempts_s = keep_attempts_s

    async def turn(self) -> None:
        """Gather results for a moment, then commit every shard that has some."""
        try:
            async with asyncio.timeout(self._pause_s()):
                await self._board.dirty.wait()
                await asyncio.sleep(WINDOW_S)
        except TimeoutError:
            pass
        self._board.dirty.clear()
        now, now_ms = self._clock.monotonic(), self._leases.later_ms(0)
        if any([shard.park_slow(now, now_ms) for shard in self._board.shards.values()]):  # noqa: C419 - all of them
            self._board.due.set()
        busy = [shard for shard in self._board.shards.values() if self._has_news(shard, now)]
        try:
            results = await asyncio.gather(
                *(self.commit(one, patience_s=PATIENCE_S) for one in busy), return_exceptions=True
            )
        except BaseException:
            self._board.dirty.set()  # what was not confirmed is sent again
            raise
        for error in filter(None, results):
            self._board.dirty.set()
            raise error

    async def commit(self, shard: Shard, *, patience_s: float | None = None) -> None:
        """Commit a shard's results; if its lease has gone to somebody else, drop it.

        If its lock is not to be had within `patience_s` (None: wait for it), another turn follows.
        """
        try:
            async with asyncio.timeout(patience_s):
                await shard.lock.acquire()
        except TimeoutError:
            return self._board.dirty.set()
        try:
            await self._settle(shard)
        finally:
            shard.lock.release()
        return None

    async def _settle(self, shard: Shard) -> None:
        try:
            if shard.unconfirmed is not None:  # what came after it follows at once
                await self._commit(shard)
            await self._commit(shard)
        except LostCommitError:
            log.error("dispatcher.store_regressed", shard=shard.number)  # noqa: TRY400 - the store's fault, not ours
            self._board.forget()
        except FencedError:
            log.info("dispatcher.fenced", shard=shard.number)
            if self._board.shards.get(shard.number) is shard:
                del self._board.shards[shard.number]

    async def _commit(self, shard: Shard) -> None:
        now_ms = self._leases.now_ms()
        keep_after_ms = now_ms - int(self._keep_attempts_s * 1000)
        group = shard.close_group(self._board.tail, now_ms)
        if group:
            await self._deliveries.commit(
                shard.number, shard.token, shard.next_mark, group, keep_after_ms, follows=shard.mark
            )
        shard.confirmed(self._clock.monotonic())
        if group.due:
            self._board.due.set()

    def _pause_s(self) -> float | None:
        """Seconds until an attempt becomes slow or a lagging cursor is to be moved; None: nothing to wait for."""
        now = self._clock.monotonic()
        shards = self._board.shards.values()
        times = [shard.next_park for shard in shards if shard.next_park is not None]
        times += [shard.committed_at + IDLE_S for shard in shards if self._lags(shard)]
        return max(min(times) - now, 0.001) if times else None

    def _lags(self, shard: Shard) -> bool:
        return shard.lags(self._board.tail)

    def _has_news(self, shard: Shard, now: float) -> bool:
        overdue = self._lags(shard) and now - shard.committed_at >= IDLE_S
        return bool(shard.group or shard.touched or shard.unconfirmed or overdue)
