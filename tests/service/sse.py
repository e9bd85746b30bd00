"""A reader of Server-Sent Events, as the WHATWG's HTML standard (9.2.6) has it interpreted."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

from tests.service.admin_api import TOKEN, Api

PATH = "/v1/events/stream"


class Message(NamedTuple):
    """One event that was dispatched."""

    event: str
    last_event_id: str
    data: Any


class EventSource:
    """One connection."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last_event_id = ""
        self.retry_ms = 0
        self.comments: list[str] = []

    async def block(self) -> Message | None:
        """The next block of lines; None: it dispatches no event. Raises `EOFError` at the end of the stream."""
        event, data = "", list[str]()
        while line := (await self.response.content.readline()).decode():
            name, _, value = line.rstrip("\n").partition(":")
            value = value.removeprefix(" ")
            if not name and not value:
                return Message(event, self.last_event_id, json.loads("\n".join(data))) if data else None
            if not name:
                self.comments.append(value)
            elif name == "id":
                self.last_event_id = value
            elif name == "retry":
                self.retry_ms = int(value)
            elif name == "event":
                event = value
            elif name == "data":
                data.append(value)
        raise EOFError

    async def take(self, count: int, timeout_s: float = 5.0) -> list[Message]:
        """The next so many events."""
        found: list[Message] = []
        async with asyncio.timeout(timeout_s):
            while len(found) < count:
                message = await self.block()
                if message is not None:
                    found.append(message)
        return found

    async def ended(self, timeout_s: float = 1.0) -> bool:
        """Whether the stream ends within this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                try:
                    while True:
                        await self.block()
                except (EOFError, aiohttp.ClientPayloadError):  # the latter in the middle of a message
                    return True
        return False

    async def ids(self, count: int) -> list[str]:
        """Event ids of the next so many events."""
        return [one.data["data"]["event_id"] for one in await self.take(count)]


@asynccontextmanager
async def follow(api: Api, last_event_id: str | None = None, **query: str) -> AsyncIterator[EventSource]:
    """Open a stream; when it is there, its place is fixed."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    async with api.http.get(PATH, params=query, headers=headers) as response:
        assert response.status == 200, await response.text()
        source = EventSource(response)
        assert await source.block() is None
        yield source


def entry_fields(payload: bytes) -> Any:
    """An entry of the log, as the store has it."""
    return {"i": "e", "t": "lab.completed", "s": "lod", "e": "1", "p": payload}
