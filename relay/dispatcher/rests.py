"""Lanes that wait for their breaker or their rate; nothing is asked of the store meanwhile."""

import asyncio

from relay.clock import Clock
from relay.dispatcher.board import Board
from relay.dispatcher.workers import Workers


class Rests:
    """Lets lanes go on when their time has come."""

    def __init__(self, board: Board, workers: Workers, clock: Clock) -> None:
        self._board = board
        self._workers = workers
        self._clock = clock

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
                self._workers.employ(shard, lane)
        times = [at for _, at in board.rests.values()]
        pause_s = max(min(times) - self._clock.monotonic(), 0.001) if times else None
        try:
            async with asyncio.timeout(pause_s):
                await board.rested.wait()
        except TimeoutError:
            return
