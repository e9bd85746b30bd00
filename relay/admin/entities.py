"""Entities: what is known of one lab instance or session, and what was told of it.

Ids are whatever the upstream uses, compared as text. The store keeps the places of an entity's events in a bucket that
it shares with others, so a timeline is found without reading the log, however long that is.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.admin.attempt_walk import Budget
from relay.admin.delivery_schema import shown_delivery
from relay.admin.entity_schema import (
    FAMILIES,
    EntityOut,
    TimelineQuery,
    read_state,
    shown_item,
    shown_state,
)
from relay.admin.feed import Feed, FeedCursor
from relay.admin.ledger import Ledger, may_have_had_it
from relay.admin.pages import json_response
from relay.admin.problems import no_source, not_found
from relay.admin.requests import read_query
from relay.admin.routes import Route
from relay.admin.waits import Waits
from relay.core.log import START, Entry, Place
from relay.core.rows import MAX_ID_LENGTH
from relay.store import Store

LOOK_UPS: Final = 200
"""Deliveries that are looked up for one page; one event's are all looked up in any case."""

_decode = msgspec.json.Decoder().decode


def named(request: web.Request) -> tuple[str, str]:
    """Source and id that the path names; raises `ProblemError` for what cannot be the id of anything."""
    source, entity_id = request.match_info["source"], request.match_info["id"]
    if not all(len(one) <= MAX_ID_LENGTH and one.isprintable() for one in (source, entity_id)):
        raise not_found("entity")
    return source, entity_id


class Entities:
    """The route /v1/entities/{source}/{id}."""

    def __init__(self, store: Store, feed: Feed, ledger: Ledger, kinds: Mapping[str, str]) -> None:
        self._store = store
        self._feed = feed
        self._ledger = ledger
        self._kinds = kinds

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        summary, path = "Show an entity: its last known state and its timeline", "/v1/entities/{source}/{id}"
        return (Route("GET", path, self._get, summary, {200: EntityOut}, query=TimelineQuery),)

    async def _get(self, request: web.Request) -> web.Response:
        """The events come in their order, with what became of each for every subscriber; `cursor` leads on."""
        query = read_query(request, TimelineQuery)
        source, entity_id = named(request)
        place = query.place(FeedCursor)
        after = START if place is None else Place(place.ms, place.no)
        family = FAMILIES.get(self._kinds.get(source, ""))
        snapshot = read_state(await self._store.snapshots.load_one(source, entity_id), family)
        end = (await self._feed.shown()).end
        found = await self._store.log.of_entity(source, entity_id, after, end, query.limit + 1)
        if snapshot is None and not found and after == START:
            raise not_found("entity") if source in self._kinds else no_source(self._kinds)
        told = await self._told(found[: query.limit])
        kind = family.entity_kind if family else _kind(found)
        last = found[len(told) - 1].place if len(told) < len(found) else None
        return json_response(
            {
                "source": source,
                "entity": {"kind": kind, "id": entity_id},
                "state": shown_state(snapshot, family) if snapshot and family else None,
                "data": told,
                "next_cursor": query.following(None if last is None else FeedCursor(last.ms, last.no)),
            }
        )

    async def _told(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Events with their deliveries: as many as can be looked up at a bounded cost, one at the least."""
        subscribers = sorted(await self._store.registry.all(), key=lambda one: one.id)
        waits, budget, looked_up = await Waits.of(self._store, subscribers), Budget(), 0
        told: list[dict[str, Any]] = []
        for entry in entries:
            states = await self._ledger.states([(one.id, entry.place) for one in subscribers])
            likely = [one for one, state in zip(subscribers, states, strict=True) if may_have_had_it(one, entry, state)]
            if told and (looked_up + len(likely) > LOOK_UPS or budget.groups <= 0):
                break
            looked_up += len(likely)
            deliveries = [await self._ledger.look_up(one.id, entry, one, budget) for one in likely]
            seen = [one.seen for one in deliveries if one is not None]
            told.append(shown_item(entry, [shown_delivery(waits.timed(one), waits.briefly(one)) for one in seen]))
        return told


def _kind(entries: Sequence[Entry]) -> str:
    """What an entity is whose source is configured no longer, by what was told of it and not erased since."""
    return next((str(_decode(one.payload)["data"]["entity"]["kind"]) for one in entries if not one.erased), "unknown")
