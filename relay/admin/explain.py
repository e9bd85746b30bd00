"""`GET /v1/events/{id}/explain`: how an event was seen, and why each subscriber gets it, or not, or not yet."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
from aiohttp import web

from relay.admin.attempt_schema import moment
from relay.admin.attempt_walk import Budget
from relay.admin.delivery_schema import shown_in_full
from relay.admin.explain_schema import EventExplained, ExplainQuery, Verdict, shown_refusal
from relay.admin.feed import Feed
from relay.admin.ledger import Found, Ledger, may_have_had_it
from relay.admin.pages import NameCursor, json_response, page_of
from relay.admin.problems import erased, no_event, not_found
from relay.admin.requests import read_query
from relay.admin.routes import Route
from relay.admin.waits import Waits
from relay.core.catalogue import catalogue
from relay.core.log import Entry
from relay.core.matching import Refusal, refusal
from relay.core.rules import rule_for
from relay.core.subscriber import Subscriber, moment_ms
from relay.store import Store
from relay.store.delivery_state import DeliveryState

_decode = msgspec.json.Decoder().decode

_DETAILS: Mapping[Verdict, str] = {
    "delivery": "it matches, or did when it came: see delivery",
    "refused": "its filter says no: see refused_by",
    "registered_later": "it was registered after the event: a subscriber gets what happens from then on",
    "passed": "it would match now, but did not when it passed, or the record of its attempts has expired",
}


class Explain:
    """The route /v1/events/{id}/explain."""

    def __init__(self, store: Store, feed: Feed, ledger: Ledger, intervals_s: Mapping[str, float]) -> None:
        self._store = store
        self._feed = feed
        self._ledger = ledger
        self._intervals_s = intervals_s

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        summary, path = "Explain an event: how it was seen, who gets it and why not", "/v1/events/{id}/explain"
        return (Route("GET", path, self._explain, summary, {200: EventExplained}, query=ExplainQuery, problems=(410,)),)

    async def _explain(self, request: web.Request) -> web.Response:
        query = read_query(request, ExplainQuery)
        entry = await self._feed.find(request.match_info["id"])
        if entry is None:
            raise no_event()
        if entry.erased:
            raise erased()
        page, following = page_of(await self._subscribers(query.subscriber_id), query, lambda one: one.id)
        told = await self._told(entry, page)
        if len(told) < len(page):
            following = query.following(NameCursor(page[len(told) - 1].id))
        return json_response(
            {
                **_seen(entry, self._intervals_s.get(entry.source)),
                "data": told,
                "next_cursor": following,
            }
        )

    async def _subscribers(self, subscriber_id: str | None) -> list[Subscriber]:
        if subscriber_id is None:
            return await self._store.registry.all()
        found = await self._store.registry.get(subscriber_id)
        if found is None:
            raise not_found("subscriber")
        return [found]

    async def _told(self, entry: Entry, page: Sequence[Subscriber]) -> list[dict[str, Any]]:
        """Of these subscribers the first ones: as many as can be looked up at a bounded cost, one at the least."""
        states = await self._ledger.states([(one.id, entry.place) for one in page])
        budget, waits = Budget(), await Waits.of(self._store, page)
        told: list[dict[str, Any]] = []
        for subscriber, state in zip(page, states, strict=True):
            one = await self._one(entry, subscriber, state, budget, waits)
            if told and budget.groups <= 0:
                break  # the search may have been given up: the next page begins with it, and has a budget of its own
            told.append(one)
        return told

    async def _one(
        self, entry: Entry, subscriber: Subscriber, state: DeliveryState, budget: Budget, waits: Waits
    ) -> dict[str, Any]:
        refused = refusal(subscriber.event_types, subscriber.filter, entry.event_type, entry.payload)
        found = None
        if may_have_had_it(subscriber, entry, state):
            found = await self._ledger.look_up(subscriber.id, entry, subscriber, budget)
            found = None if found is None else replace(found, seen=waits.timed(found.seen))
        verdict = _verdict(subscriber, entry, refused, found)
        return {
            "subscriber_id": subscriber.id,
            "description": subscriber.description,
            "enabled": subscriber.enabled,
            "verdict": verdict,
            "detail": _DETAILS[verdict],
            "refused_by": shown_refusal(refused),
            "delivery": None if found is None else shown_in_full(found),
            "waits": [] if found is None else await waits.explain(subscriber, entry, found),
        }


def _verdict(subscriber: Subscriber, entry: Entry, refused: Refusal | None, found: Found | None) -> Verdict:
    if found is not None:
        return "delivery"
    if refused is not None:
        return "refused"
    return "registered_later" if entry.place.ms <= moment_ms(subscriber.created_at) else "passed"


def _seen(entry: Entry, interval_s: float | None) -> dict[str, Any]:
    data = _decode(entry.payload)["data"]
    observed = data["observed"]
    return {
        "event_id": entry.event_id,
        "type": entry.event_type,
        "source": entry.source,
        "entity": data["entity"],
        "sequence": data["sequence"],
        "logged_at": moment(entry.place.ms),
        "observed": {
            **observed,
            "within_s": _within_s(observed["after"], observed["at"]),
            "poll_interval_s": interval_s,
            "first_seen": data["first_seen"],
            "backfill": data["backfill"],
        },
        "occurred_at": data["occurred_at"],
        "transition": data["transition"],
        "changes": data["changes"],
        "rule": rule_for(entry.event_type, first_seen=data["first_seen"]),
        "meaning": catalogue()[entry.event_type].description if entry.event_type in catalogue() else "",
    }


def _within_s(after: str | None, at: str) -> float | None:
    """Width of the bracket in which it happened."""
    if after is None:
        return None
    return round((datetime.fromisoformat(at) - datetime.fromisoformat(after)).total_seconds(), 3)
