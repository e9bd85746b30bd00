"""The log as a feed: which of its events are asked for, where a consumer stands in it, and how an event is told.

Invariants: an event is shown once it is durable, not before; private fields never leave through here; whoever stands
before what retention has removed, or beyond what the log has ever given out, is told so instead of losing in silence.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from pydantic import ConfigDict

from relay.admin.examples import CURSOR, EVENT
from relay.admin.fields import Described, Moment, example
from relay.admin.pages import Count, CursorText, NoQuery, decode_cursor, encode_cursor
from relay.admin.problems import FieldError, ProblemError, invalid
from relay.admin.subscriber_schema import Pattern
from relay.core.erasure import shown
from relay.core.log import Entry, Place
from relay.core.matching import type_matches
from relay.durable import Durable, Shown
from relay.store.log import LogStore

EVENT_ID: Final = re.compile(r"evt_[a-z2-7]{26}")
SCAN: Final = 2000
"""Entries read at a time for one page: with a rare filter a page may be short, and still not the last."""
SEARCH_S: Final = 1.0
"""For so long a page that is empty so far is searched on."""
_CHUNK: Final = 250

REMOVED: Final = (
    "events after this place have outlived their retention (RELAY_RETENTION__EVENTS_S) and were removed: begin again "
    "at the oldest that is kept, without after and cursor, and read states from GET /v1/entities/{source}/{id}"
)
BEYOND: Final = (
    "this place lies beyond the end of the log: it is of another store, or of this one before it lost its latest "
    "events; begin again without after and cursor, and skip the event ids that you know"
)

_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class FeedCursor(msgspec.Struct, frozen=True, array_like=True, tag="event"):
    """After which place in the log a feed goes on."""

    ms: Count
    no: Count


class Selection(NoQuery):
    """Where to begin, and which events."""

    after: CursorText | None = None
    """The `cursor` or the id of the last event seen."""
    event_type: Pattern | None = None
    """A type, or a pattern as in a subscription."""
    source: str | None = None
    entity_id: str | None = None
    """A lab instance's or a session's id, as the upstream has it."""

    def wants(self, entry: Entry) -> bool:
        """Whether an event passes the filters."""
        return (
            (self.event_type is None or type_matches(self.event_type, entry.event_type))
            and self.source in (None, entry.source)
            and self.entity_id in (None, entry.entity_id)
        )


class EventOut(Described):
    """A payload as it is sent in the `standard` format."""

    model_config = ConfigDict(json_schema_extra=example(EVENT))

    type: str
    timestamp: Moment
    data: dict[str, Any]


class FeedItem(EventOut):
    """A payload with its place in the feed."""

    model_config = ConfigDict(json_schema_extra=example({**EVENT, "cursor": CURSOR}))

    cursor: str
    """What `after` takes, to go on behind this event."""


@dataclass(frozen=True, slots=True)
class Portion:
    """What a bounded search of the log has found."""

    entries: Sequence[Entry]
    reached: Place
    """The log was read up to here."""
    more: bool
    """Whether something may follow, or something was passed over after the last entry: the place to go on is news."""
    at_end: bool = False
    """Whether everything up to the end of the log was looked at."""


class Feed:
    """Reads what may be shown of the log."""

    def __init__(self, log: LogStore, durable: Durable) -> None:
        self._log = log
        self._durable = durable

    async def find(self, event_id: str) -> Entry | None:
        """The event with this id."""
        entry = await self._log.find(event_id) if EVENT_ID.fullmatch(event_id) else None
        return entry if entry is not None and await self._durable.shows(entry.place) else None

    async def shown(self) -> Shown:
        """How far the log may be shown now."""
        return await self._durable.shown()

    async def place(self, text: str, name: str, without: str = "to begin at the oldest") -> Place:
        """The place that a cursor or an event id names; raises `ProblemError` that names the parameter.

        `without` says what follows from leaving it out.
        """
        if text.startswith("evt_"):
            entry = await self.find(text)
            if entry is None:
                raise invalid(FieldError(f"/{name}", f"names no event that is kept: leave it out {without}"))
            return entry.place
        cursor = decode_cursor(
            text,
            FeedCursor,
            name,
            fault=f"is neither a cursor of the feed nor the id of an event: leave it out {without}",
        )
        return Place(cursor.ms, cursor.no)

    async def search(self, selection: Selection, start: Place | None, limit: int) -> Portion:
        """As `scan`, and on from there while nothing is found, until the end of the log or of the time for it."""
        until = asyncio.get_running_loop().time() + SEARCH_S
        found = await self.scan(selection, start, limit)
        while not (found.entries or found.at_end) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0)
            more = await self.scan(selection, found.reached, limit)
            found = replace(more, more=more.more or found.more)
        return found

    async def scan(self, selection: Selection, start: Place | None, limit: int) -> Portion:
        """Up to `limit` matching events after a place (None: from the oldest); `ProblemError` where that is gone."""
        extent = await self.shown()
        if start is not None and start > extent.last:
            raise ProblemError("cursor-expired", BEYOND)
        place = begin = extent.trimmed if start is None else start
        found: list[Entry] = []
        for _ in range(SCAN // _CHUNK):
            chunk, trimmed = await self._log.kept_after(place, extent.end, _CHUNK)
            if trimmed > place and not (start is None and place == begin):
                if place != begin:
                    break  # the next page tells of it
                raise ProblemError("cursor-expired", REMOVED)
            for entry in chunk:
                place = entry.place
                if selection.wants(entry):
                    found.append(entry)
                    if len(found) == limit:
                        return Portion(found, place, more=True)
            if len(chunk) < _CHUNK:
                more = place != (found[-1].place if found else begin)
                return Portion(found, place, more, at_end=True)
        return Portion(found, place, more=True)


def cursor_at(place: Place) -> str:
    """The cursor that names a place."""
    return encode_cursor(FeedCursor(place.ms, place.no))


def item(entry: Entry) -> dict[str, Any]:
    """An event with its place in the feed."""
    return {**_decode_parts(shown(entry)), "cursor": cursor_at(entry.place)}
