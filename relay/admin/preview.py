"""`POST /v1/subscribers/preview`: what a subscription would have got of the latest events."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiohttp import web
from pydantic import ConfigDict, Field

from relay.admin.attempt_schema import moment
from relay.admin.examples import PREVIEW, PREVIEW_WISHES
from relay.admin.explain_schema import EntityRef, TransitionOut
from relay.admin.feed import Feed
from relay.admin.fields import Described, Moment, Whole, example
from relay.admin.pages import json_response
from relay.admin.policy import Policy
from relay.admin.requests import read_model
from relay.admin.routes import Route
from relay.admin.subscriber_schema import FilterIn, Pattern
from relay.core.log import Entry
from relay.core.matching import refusal
from relay.core.subscriber import Filter
from relay.store import Store

MAX_LAST: Final = 10_000
MAX_SHOWN: Final = 100
_CHUNK: Final = 500

_SUMMARY: Final = "Say which of the latest events a subscription would have got"

_decode = msgspec.json.Decoder().decode


class PreviewIn(Described):
    """What a subscription would ask for."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=example(PREVIEW_WISHES))

    event_types: list[Pattern] = Field(default=["*"], min_length=1, max_length=50)
    filter: FilterIn = FilterIn()
    last: Whole = Field(default=1000, ge=1, le=MAX_LAST)
    """How many of the latest events are looked at."""


class PreviewedEvent(Described):
    """An event that would have been sent."""

    event_id: str
    type: str
    source: str
    entity: EntityRef
    sequence: int
    transition: TransitionOut
    logged_at: Moment


class PreviewOut(Described):
    """What the latest events come to."""

    model_config = ConfigDict(json_schema_extra=example(PREVIEW))

    examined: int
    since: Moment | None
    """When the oldest of the events that were looked at entered the log; null: there are none."""
    matched: int
    matched_by_type: dict[str, int]
    refused_by: dict[str, int]
    """For the others: the first condition that said no, and to how many."""
    events: list[PreviewedEvent]
    """The latest of those that match, newest first, at most a hundred."""


@dataclass(slots=True)
class _Tally:
    """What has been counted so far."""

    examined: int = 0
    oldest_ms: int | None = None
    matched: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    shown: list[dict[str, Any]] = field(default_factory=list)

    def add(self, entry: Entry, event_types: Sequence[str], condition: Filter) -> None:
        """Count one event."""
        self.examined += 1
        self.oldest_ms = entry.place.ms
        refused = refusal(event_types, condition, entry.event_type, entry.payload)
        if refused is not None:
            self.refused[refused.condition] += 1
            return
        self.matched[entry.event_type] += 1
        if len(self.shown) < MAX_SHOWN:
            self.shown.append(_shown(entry))


class Preview:
    """The route /v1/subscribers/preview."""

    def __init__(self, store: Store, feed: Feed, policy: Policy) -> None:
        self._log = store.log
        self._feed = feed
        self._policy = policy

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        path = "/v1/subscribers/preview"
        return (Route("POST", path, self._preview, _SUMMARY, {200: PreviewOut}, body=PreviewIn, reads=True),)

    async def _preview(self, request: web.Request) -> web.Response:
        """Nothing is sent and nothing is stored: it can be asked while a filter is being written."""
        wanted = await read_model(request, PreviewIn, context=self._policy)
        condition = Filter(**{name: tuple(ids) for name, ids in wanted.filter.model_dump(by_alias=False).items()})
        tally = await self._examine(wanted.event_types, condition, wanted.last)
        return json_response(
            {
                "examined": tally.examined,
                "since": moment(tally.oldest_ms),
                "matched": tally.matched.total(),
                "matched_by_type": dict(sorted(tally.matched.items())),
                "refused_by": dict(sorted(tally.refused.items())),
                "events": tally.shown,
            }
        )

    async def _examine(self, event_types: Sequence[str], condition: Filter, last: int) -> _Tally:
        """Go back from the end as far as it may be shown; others have their turn in between."""
        tally = _Tally()
        end = (await self._feed.shown()).end
        place = end._replace(no=end.no + 1)
        while tally.examined < last:
            chunk = await self._log.before(place, _CHUNK)
            for entry in chunk:
                if not entry.erased and tally.examined < last:
                    tally.add(entry, event_types, condition)
            if len(chunk) < _CHUNK:
                break
            place = chunk[-1].place
            await asyncio.sleep(0)
        return tally


def _shown(entry: Entry) -> dict[str, Any]:
    data = _decode(entry.payload)["data"]
    return {
        "event_id": entry.event_id,
        "type": entry.event_type,
        "source": entry.source,
        "entity": data["entity"],
        "sequence": data["sequence"],
        "transition": data["transition"],
        "logged_at": moment(entry.place.ms),
    }
