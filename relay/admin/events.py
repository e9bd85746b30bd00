"""Events: the log as a feed, and one event by its id. Private fields of a record never leave through here."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiohttp import web
from pydantic import ConfigDict, Field, model_validator

from relay.admin.examples import CURSOR, EVENT
from relay.admin.fields import Described, Moment, example
from relay.admin.pages import Count, PageQuery, decode_cursor, encode_cursor, json_response, page_response
from relay.admin.problems import FieldError, invalid, not_found
from relay.admin.requests import read_query
from relay.admin.routes import Route
from relay.admin.subscriber_schema import Pattern
from relay.core.log import START, Entry, Place
from relay.core.matching import type_matches
from relay.store.log import LogStore

SCAN: Final = 2000
"""Entries read for one page at the most: with a rare filter a page may be short, or empty, and still not the last."""
_CHUNK: Final = 250
_EVENT_ID: Final = "evt_"

_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class FeedCursor(msgspec.Struct, frozen=True, array_like=True, tag="event"):
    """After which place in the log a feed goes on."""

    ms: Count
    no: Count


class EventsQuery(PageQuery):
    """Where to begin, and which events."""

    after: str | None = Field(default=None, max_length=500, json_schema_extra={"format": "cursor"})
    """The `cursor` or the id of the last event seen; without it the feed begins at the oldest event kept."""
    event_type: Pattern | None = None
    """A type, or a pattern as in a subscription."""
    source: str | None = None
    entity_id: str | None = None
    """A lab instance's or a session's id, as the upstream has it."""

    @model_validator(mode="after")
    def _one_beginning(self) -> "EventsQuery":
        if self.after is not None and self.cursor is not None:
            raise ValueError("give either after or cursor: both say where to begin")
        return self

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


class Events:
    """The routes below /v1/events."""

    def __init__(self, log: LogStore) -> None:
        self._log = log

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        return (
            Route(
                "GET",
                "/v1/events",
                self._list,
                "Read the feed of events",
                {200: FeedItem},
                query=EventsQuery,
                page=True,
            ),
            Route("GET", "/v1/events/{id}", self._get, "Show an event", {200: EventOut}),
        )

    async def _list(self, request: web.Request) -> web.Response:
        query = read_query(request, EventsQuery)
        start = await self._start(query)
        found, reached, ended = await self._scan(query, start)
        # A page that has skipped nothing and ends where the log does is the last; the next begins after its last item.
        more = not ended or reached != (found[-1].place if found else start)
        following = FeedCursor(reached.ms, reached.no) if more else None
        return page_response([_item(entry) for entry in found], following)

    async def _start(self, query: EventsQuery) -> Place:
        if query.after is not None and query.after.startswith(_EVENT_ID):
            entry = await self._log.find(query.after)
            if entry is None:
                raise invalid(FieldError("/after", "names no event that is kept: leave it out to begin at the oldest"))
            return entry.place
        name = "after" if query.after is not None else "cursor"
        text = query.after if query.after is not None else query.cursor
        if text is None:
            return START
        cursor = decode_cursor(text, FeedCursor, name)
        return Place(cursor.ms, cursor.no)

    async def _scan(self, query: EventsQuery, start: Place) -> tuple[list[Entry], Place, bool]:
        """Matching entries, the place up to which the log was read, and whether it ends there."""
        end = await self._log.end()
        found: list[Entry] = []
        for _ in range(SCAN // _CHUNK):
            chunk = await self._log.after(start, end, _CHUNK) if start < end else []
            for entry in chunk:
                start = entry.place
                if query.wants(entry):
                    found.append(entry)
                    if len(found) == query.limit:
                        return found, start, False
            if len(chunk) < _CHUNK:
                return found, start, True
        return found, start, False

    async def _get(self, request: web.Request) -> web.Response:
        entry = await self._log.find(request.match_info["id"])
        if entry is None:
            raise not_found("event")
        return json_response(msgspec.Raw(entry.payload))


def _item(entry: Entry) -> dict[str, Any]:
    cursor = encode_cursor(FeedCursor(entry.place.ms, entry.place.no))
    return {**_decode_parts(entry.payload), "cursor": cursor}
