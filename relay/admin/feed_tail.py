"""The end of the log, read once per process for all the streams that follow it.

Invariants: nothing is read while nobody follows; what is handed out is durable; no follower keeps another waiting, nor
anything in memory beyond the few latest events, which all of them share. Who has fallen behind these reads the log from
its own place.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import Final, Protocol

import msgspec
import structlog

from relay.admin.feed import cursor_at, item
from relay.core.errors import RelayError
from relay.core.log import Entry, Place
from relay.durable import Durable
from relay.store.errors import STORE_ERRORS
from relay.store.log import LogStore
from relay.telemetry import Metrics

MAX_STREAMS: Final = 256
BLOCK_MS = 2000
MAX_FRAMES = 1000
MAX_BYTES = 4_000_000
BATCH: Final = 100
"""Events that a follower gets at a time."""
CATCH_UP: Final = 4
"""How many followers may read the log for themselves at once: the store has others to serve."""
PAUSE_S = 0.5

_place_of = attrgetter("place")
_encode = msgspec.json.Encoder().encode

log = structlog.get_logger()


class Frame:
    """One event, ready to be sent."""

    __slots__ = ("entry", "place", "text")

    def __init__(self, entry: Entry) -> None:
        self.place = entry.place
        # A row keeps the upstream's own line breaks, which would end the line here; JSON has them between values only.
        data = _encode(item(entry)).replace(b"\r", b" ").replace(b"\n", b" ")
        self.text = b"id: %s\nevent: %s\ndata: %s\n\n" % (
            cursor_at(entry.place).encode(),
            entry.event_type.encode(),
            data,
        )
        self.entry = entry


class Follower(Protocol):
    """A stream."""

    @property
    def place(self) -> Place:
        """What stands up to here it has had."""
        ...

    @property
    def gone(self) -> bool:
        """Whether nobody listens any more."""
        ...

    def set_back(self, place: Place) -> None:
        """Go on from here: the store has lost what stood behind."""
        ...

    def end(self) -> None:
        """Stop at once."""
        ...


class TooManyError(RelayError):
    """All places are taken."""


class StoppingError(RelayError):
    """Nobody is told anything any more."""


class FeedTail:
    """The latest events, and whoever follows them."""

    def __init__(self, store: LogStore, durable: Durable, metrics: Metrics) -> None:
        self._store = store
        self._durable = durable
        self._metrics = metrics
        self._followers: set[Follower] = set()
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._catching_up = asyncio.Semaphore(CATCH_UP)
        self._frames: list[Frame] = []
        self._bytes = 0
        self._floor: Place | None = None
        """Everything after this and up to the end is in memory; None: nothing is known yet."""
        self._end: Place | None = None
        self.closed = False

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next news. Get it before looking for some, so that none is missed."""
        return self._changed

    def join(self, follower: Follower) -> None:
        """Begin to follow; raises `StoppingError`, `TooManyError`. Whom nobody listens to any more takes no place."""
        if self.closed:
            raise StoppingError
        if sum(not one.gone for one in self._followers) >= MAX_STREAMS:
            raise TooManyError
        self._followers.add(follower)
        self._metrics.streams.set(len(self._followers))
        self._wanted.set()

    def leave(self, follower: Follower) -> None:
        """Follow no longer."""
        self._followers.discard(follower)
        self._metrics.streams.set(len(self._followers))
        if not self._followers:
            self._wanted.clear()

    def close(self) -> None:
        """End every stream at once, also those that are waiting for a slow reader."""
        self.closed = True
        self._tell()
        for follower in list(self._followers):
            follower.end()

    async def run(self) -> None:
        """Read the end of the log for as long as anybody follows it."""
        failures = 0
        while True:
            await self._wanted.wait()
            try:
                await self._turn()
                failures = 0
            except STORE_ERRORS as error:
                self._metrics.store_errors.inc()
                (log.debug if failures else log.warning)("feed.store_error", error=type(error).__name__)
                failures += 1
                self.forget()  # it may be another store, or have lost its latest events: begin at its end
                await asyncio.sleep(PAUSE_S)

    async def _turn(self) -> None:
        if self._end is None:
            await self._begin()
            return
        end = self._end
        news = await self._store.wait(end, None, block_ms=BLOCK_MS, count=BATCH)
        if not self._followers:
            self.forget()
        elif news.entries:
            passes = await self._durable.passes(news.entries[-1].place)
            if passes is None:
                self.forget()
            elif passes and self._end == end:  # else it was told to forget meanwhile, and begins anew
                self._take(news.entries)

    async def _begin(self) -> None:
        followers = list(self._followers)  # who comes from now on has asked where the end is itself
        shown = await self._durable.shown()
        for follower in followers:
            if follower.place > shown.last:
                follower.set_back(shown.last)
        self._floor = self._end = shown.end
        self._tell()

    def forget(self) -> None:
        """Keep nothing: who comes, or is here, finds in the log what it has not seen."""
        self._frames, self._bytes = [], 0
        self._floor = self._end = None

    def _take(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._frames.append(Frame(entry))
            self._bytes += len(self._frames[-1].text)
        self._end = entries[-1].place
        drop = 0
        while len(self._frames) - drop > MAX_FRAMES or self._bytes > MAX_BYTES:
            self._bytes -= len(self._frames[drop].text)
            self._floor = self._frames[drop].place
            drop += 1
        del self._frames[:drop]
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def read(self, place: Place) -> tuple[Sequence[Frame], Place | None]:
        """Up to `BATCH` events after a place, and where retention has removed some of them the place up to which.

        Nothing: the place is the end as it is known now.
        """
        end, floor = self._end, self._floor
        if end is None or floor is None or place >= end:
            return (), None
        if place >= floor:
            first = bisect_right(self._frames, place, key=_place_of)
            return self._frames[first : first + BATCH], None
        async with self._catching_up:
            entries, trimmed = await self._store.kept_after(place, end, BATCH)
        gap = trimmed if trimmed > place else None
        return [Frame(entry) for entry in entries if gap is None or entry.place > gap], gap
