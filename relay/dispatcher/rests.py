"""Lanes that wait for their breaker or their rate; nothing is asked of the store meanwhile."""

import asyncio

from relay.clock import Clock
from relay.dispatcher.board import Board
from relay.dispatcher.lane import PROBES, Lane
from relay.dispatcher.shard import Shard
from relay.dispatcher.workers import Workers
from relay.leases import Leases

LOOK_AGAIN_S = 1.0
"""A lane that has nothing but its shelf to probe with is looked at again after this."""


class Rests:
    """Lets lanes go on when their time has come."""

    def __init__(self, board: Board, workers: Workers, clock: Clock, leases: Leases) -> None:
        self._board = board
        self._workers = workers
        self._clock = clock
        self._leases = leases

    async def turn(self) -> None:
        """Let go on who may, then sleep until the next one may."""
        board = self._board
        board.rested.clear()
        now = self._clock.monotonic()
        for lane, (shard, at) in list(board.rests.items()):
            if at <= now:
                del board.rests[lane]
                lane.resting = False
                board.hungry.set()
                if lane.shelf:
                    self._look_at_shelf(shard, lane, now)
                self._workers.employ(shard, lane)
        times = [at for _, at in board.rests.values()]
        pause_s = max(min(times) - self._clock.monotonic(), 0.001) if times else None
        try:
            async with asyncio.timeout(pause_s):
                await board.rested.wait()
        except TimeoutError:
            return

    def _look_at_shelf(self, shard: Shard, lane: Lane, now: float) -> None:
        """Take a few retries off the shelf: perhaps nothing else comes that the subscriber could be probed with.

        What is queued may turn out to wait for these, or to be erased; so look again.
        """
        if not (lane.queued or lane.in_flight):
            shard.unshelve(lane, self._leases.now_ms(), PROBES)
            self._board.dirty.set()
        self._board.wake_at(shard, lane, now + LOOK_AGAIN_S)
