"""The feed as Server-Sent Events (WHATWG HTML, section 9.2): `GET /v1/events/stream`.

Invariant: a stream's place passes an event only when it has been handed to the connection or was not asked for. The
`id` of an event is its cursor, so `Last-Event-ID` goes on behind it, without loss and without repeat. A heartbeat
carries an `id` too once the place has moved: with a rare filter a consumer's place would grow old otherwise.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog
from aiohttp import web
from pydantic import ConfigDict

from relay.admin.errors import stamp
from relay.admin.examples import STREAMED
from relay.admin.feed import BEYOND, Feed, Selection, cursor_at
from relay.admin.feed_tail import FeedTail, Frame, StoppingError, TooManyError
from relay.admin.fields import Described, example
from relay.admin.problems import ProblemError
from relay.admin.requests import read_query
from relay.admin.routes import Header, Route
from relay.core.log import START, Place
from relay.store.errors import STORE_ERRORS

HEARTBEAT_S = 15.0
STALL_S = 60.0
"""A reader that takes nothing for so long is cut off; it goes on with `Last-Event-ID`."""
STORE_PAUSE_S = 0.5
RETRY_MS: Final = 2000
"""How long a client is asked to wait before it comes back."""
WRITE_BYTES: Final = 65_536
GAP: Final = "relay.feed.gap"
"""Event that tells of a hole: `retention` has removed what followed `after`, or the store has lost its latest events,
and those that are minted again come once more, with the same ids."""

_SUMMARY: Final = "Follow the feed as Server-Sent Events, from now on or from a place"

_AGAIN: Final = {"Retry-After": str(RETRY_MS // 1000), "Connection": "close"}

_LAST: Final = Header(
    "Last-Event-ID",
    "The `id` of the last event that came: the stream goes on behind it, whatever `after` says.",
    {"type": "string", "maxLength": 500, "format": "cursor"},
)
_WITHOUT: Final = "to begin now, or read what is missed from GET /v1/events first and go on with its cursor"
_NOT_YET: Final = "the latest events are not on enough replicas yet, so now has no place; try again shortly"

log = structlog.get_logger()


class StreamQuery(Selection):
    """Which events, and after which (without `after` and `Last-Event-ID`: from now on)."""


class EventStream(Described):
    """Server-Sent Events, each with these fields."""

    model_config = ConfigDict(json_schema_extra=example(STREAMED))

    id: str
    """The event's cursor."""
    event: str
    """Its type, or `relay.feed.gap`."""
    data: str
    """JSON: what `GET /v1/events` shows of it."""


class Stream:
    """One connection that follows the feed."""

    def __init__(self, request: web.Request, response: web.StreamResponse, selection: Selection, place: Place) -> None:
        self._request = request
        self._response = response
        self._selection = selection
        self._told: Place | None = None
        """The place that the consumer knows of."""
        self._writing = False
        self._quiet_until = 0.0
        """On the event loop's clock: when something must be sent, to show that the connection is alive."""
        self.place = place

    @property
    def gone(self) -> bool:
        """Whether nobody listens any more."""
        return self._request.transport is None or self._request.transport.is_closing()

    def end(self) -> None:
        """Stop waiting for a reader that takes nothing; otherwise it ends by itself."""
        if self._writing and self._request.transport is not None:
            self._request.transport.abort()

    def set_back(self, place: Place) -> None:
        """Go on from here: the store has lost what stood behind."""
        self.place = place

    async def run(self, tail: FeedTail) -> None:
        """Send what comes, until the client goes or the relay stops."""
        await self._write(b"retry: %d\n" % RETRY_MS + self._id() + b": the feed goes on behind this place\n\n")
        while not tail.closed:
            news = tail.changed
            moved, pause_s = await self._turn(tail)
            if not moved:
                await self._wait(news, pause_s)
            if asyncio.get_running_loop().time() >= self._quiet_until:
                await self._write(b": heartbeat\n" + self._id() + b"\n")

    async def _turn(self, tail: FeedTail) -> tuple[bool, float]:
        """Send what there is behind the place; whether there was something, and how long to wait for more if not."""
        if self._told is not None and self.place < self._told:
            await self._tell_gap(self._told, self.place, "store_lost_events")
        place = self.place
        try:
            async with asyncio.timeout_at(self._quiet_until):
                frames, trimmed = await tail.read(place)
        except STORE_ERRORS as error:  # also a reading that takes longer than the connection may be quiet
            log.debug("stream.store_error", error=type(error).__name__)
            return False, STORE_PAUSE_S
        if place != self.place:
            return True, 0.0  # it was set back meanwhile
        if trimmed is not None:
            await self._tell_gap(place, trimmed, "retention")
            self.place = trimmed
        await self._send(frames)
        return bool(frames) or trimmed is not None, HEARTBEAT_S

    async def _send(self, frames: Sequence[Frame]) -> None:
        """Pass these events, and write those that are asked for, so much at a time as the connection holds."""
        text = bytearray()
        for frame in frames:
            if self._selection.wants(frame.entry):
                text += frame.text
                self._told = frame.place
            if len(text) >= WRITE_BYTES:
                await self._write(bytes(text))
                text.clear()
        if text:
            await self._write(bytes(text))
        if frames:
            self.place = max(self.place, frames[-1].place)

    async def _wait(self, news: asyncio.Event, seconds: float) -> None:
        """Wait for news, but no longer than the connection may be quiet."""
        until = min(asyncio.get_running_loop().time() + seconds, self._quiet_until)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await news.wait()

    async def _tell_gap(self, before: Place, behind: Place, reason: str) -> None:
        data = msgspec.json.encode({"after": cursor_at(before), "continues_after": cursor_at(behind), "reason": reason})
        self._told = behind
        await self._write(b"id: %s\nevent: %s\ndata: %s\n\n" % (cursor_at(behind).encode(), GAP.encode(), data))

    def _id(self) -> bytes:
        """A line that moves the consumer's place, if that is behind."""
        if self._told == self.place:
            return b""
        self._told = self.place
        return b"id: %s\n" % cursor_at(self.place).encode()

    async def _write(self, text: bytes) -> None:
        """Send; what a slow reader does not take waits here, not in memory."""
        self._writing = True
        async with asyncio.timeout(STALL_S):
            await self._response.write(text)
        self._writing = False
        self._quiet_until = asyncio.get_running_loop().time() + HEARTBEAT_S


class Streams:
    """The route /v1/events/stream."""

    def __init__(self, feed: Feed, tail: FeedTail) -> None:
        self._feed = feed
        self._tail = tail

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        return (
            Route(
                "GET",
                "/v1/events/stream",
                self._stream,
                _SUMMARY,
                {200: EventStream},
                query=StreamQuery,
                headers=(_LAST,),
                problems=(410,),
                media_type="text/event-stream",
            ),
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Each event has its cursor as `id`, its type as `event`, and as `data` the item that `GET /v1/events` shows.

        The header `Last-Event-ID` goes on behind the event with that cursor, without loss or repeat; without it and
        without `after` the stream begins now. Comments show every 15 s that the connection is alive. An event of type
        `relay.feed.gap` says that something is missing before what follows: `{"after", "continues_after", "reason"}`,
        where the reason is `retention`, or `store_lost_events`: those come again, with the same ids. Whoever takes
        nothing for a minute is cut off, and continues the same way.
        """
        query = read_query(request, StreamQuery)
        place = await self._beginning(request, query)
        response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
        response.content_type, response.charset = "text/event-stream", "utf-8"
        stamp(request, response)
        stream = Stream(request, response, query, place)
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        try:
            self._tail.join(stream)
        except StoppingError:
            raise ProblemError(
                "stopping", "connect again: another replica answers, or this one when it is back", headers=_AGAIN
            ) from None
        except TooManyError:
            raise ProblemError(
                "too-many-streams", "close one, or read GET /v1/events?after=", headers={"Retry-After": "5"}
            ) from None
        try:
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                await stream.run(self._tail)
        except TimeoutError:
            _abort(request)  # a reader that has stalled would stall the end of the answer too
        finally:
            self._tail.leave(stream)
        return response

    async def _beginning(self, request: web.Request, query: StreamQuery) -> Place:
        """Where to begin. A client that comes back tells its place in a header: its URL is still the first one."""
        shown = await self._feed.shown()
        text, name = request.headers.get(_LAST.name), _LAST.name
        if not text:
            text, name = query.after, "after"
        if text is None and shown.end < shown.last and shown.end == START:
            raise ProblemError("store-unavailable", _NOT_YET, headers={"Retry-After": "1"})
        if text is None:
            return shown.end
        place = await self._feed.place(text, name, _WITHOUT)
        if place > shown.last:
            raise ProblemError("cursor-expired", BEYOND)
        return place


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
