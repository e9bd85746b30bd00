"""Events: the log as a feed in pages, and one event by its id."""

from collections.abc import Sequence

import msgspec
from aiohttp import web
from pydantic import model_validator

from relay.admin.feed import EventOut, Feed, FeedItem, Selection, cursor_at, item
from relay.admin.pages import CursorText, PageQuery, json_response
from relay.admin.problems import erased, no_event
from relay.admin.requests import read_query
from relay.admin.routes import Route


class EventsQuery(Selection, PageQuery):
    """Where to begin (without `after` and `cursor` at the oldest event that is kept), and which events."""

    cursor: CursorText | None = None
    """The `next_cursor` of the page before; as `after`, it names a place in the feed, whatever the filters."""

    @model_validator(mode="after")
    def _one_beginning(self) -> "EventsQuery":
        if self.after is not None and self.cursor is not None:
            raise ValueError("give either after or cursor: both say where to begin")
        return self


class Events:
    """The routes below /v1/events that answer at once."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

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
                at_end=True,
                problems=(410,),
            ),
            Route("GET", "/v1/events/{id}", self._get, "Show an event", {200: EventOut}, problems=(410,)),
        )

    async def _list(self, request: web.Request) -> web.Response:
        query = read_query(request, EventsQuery)
        name = "after" if query.after is not None else "cursor"
        text = query.after if query.after is not None else query.cursor
        start = None if text is None else await self._feed.place(text, name)
        found = await self._feed.search(query, start, query.limit)
        following = cursor_at(found.reached) if found.more else None
        data = [item(one) for one in found.entries]
        return json_response({"data": data, "next_cursor": following, "at_end": found.at_end})

    async def _get(self, request: web.Request) -> web.Response:
        entry = await self._feed.find(request.match_info["id"])
        if entry is None:
            raise no_event()
        if entry.erased:
            raise erased()
        return json_response(msgspec.Raw(entry.payload))
