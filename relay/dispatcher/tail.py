"""Following the log: each event is read once per replica and handed to the lanes that are up to date.

Whatever the control stream said before an event is heeded before that event; and nothing that holds events up, such as
a replica of the store that is away, holds up the control stream.
"""

from collections.abc import Awaitable, Callable, Sequence

import structlog

from relay.core.log import START, Entry
from relay.dispatcher.board import Board
from relay.dispatcher.receivers import Receivers
from relay.dispatcher.workers import Workers
from relay.durable import Durable
from relay.store.log import LogStore

BLOCK_MS = 2000

log = structlog.get_logger()


class Tail:
    """Reads the log and the control stream together."""

    def __init__(
        self,
        board: Board,
        store: LogStore,
        receivers: Receivers,
        workers: Workers,
        *,
        durable: Durable,
        on_subscriber: Callable[[str], Awaitable[None]],
        on_control: Callable[[str, str], None],
    ) -> None:
        self._board = board
        self._store = store
        self._receivers = receivers
        self._workers = workers
        self._durable = durable
        self._on_subscriber = on_subscriber
        self._on_control = on_control
        self._control = START
        self._beginnings = 0

    async def begin(self) -> None:
        """Start from the log's end: what lies before it is fed to each lane from its own cursor."""
        self._control = await self._store.control_end()
        self._beginnings += 1
        self._board.begun = False
        await self._begin_log()

    async def _begin_log(self) -> None:
        """Start from the last place that is known to be durable; if none is, the next turn asks again."""
        shown = await self._durable.shown()
        if shown.end != START or shown.last == START:
            self._board.tail, self._board.begun = shown.end, True
            self._board.hungry.set()

    async def begin_if_lost(self) -> None:
        """Start anew if the store ends before what was read of it: it came back with less, or empty.

        If its clock is behind as well, all that is new stands before where this replica reads on.
        """
        if await self._store.control_end() < self._control or (await self._store.extent()).end < self._board.tail:
            log.warning("dispatcher.log_regressed", tail=str(self._board.tail))
            await self.begin()

    async def turn(self) -> None:
        """Wait for news and take it. Events that are not durable are left where they are, and read another time."""
        board = self._board
        if not board.begun:
            await self._begin_log()
        beginnings, start = self._beginnings, board.tail if board.begun else None
        news = await self._store.wait(start, self._control, block_ms=BLOCK_MS if board.begun else 1)
        for subscriber_id in {value for _, kind, value in news.control if kind == "subscriber"}:
            await self._on_subscriber(subscriber_id)
        if beginnings != self._beginnings:
            return  # begun anew meanwhile: what stands between is still to be read
        for place, kind, value in news.control:
            self._on_control(kind, value)
            self._control = place
        if news.entries and await self._durable.passes(news.entries[-1].place) and beginnings == self._beginnings:
            self._take(news.entries)

    def _take(self, entries: Sequence[Entry]) -> None:
        """Queue new events in the live lanes; the others find them in the log."""
        board = self._board
        for entry in entries:
            for subscriber_id in self._receivers.for_entry(entry):
                found = board.find(subscriber_id)
                if found and found[1].live:
                    shard, lane = found
                    lane.offer(entry, board.tail)
                    shard.touched.add(lane)
                    self._workers.employ(shard, lane)
            board.tail = entry.place
        board.hungry.set()
        board.dirty.set()
