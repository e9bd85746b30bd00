"""Deliveries: what became of an event on its way to a subscriber, and making it again."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from relay.admin.attempt_walk import Budget
from relay.admin.delivery_schema import (
    IN_TURN,
    DeliveriesQuery,
    DeliveryInFull,
    DeliverySummary,
    RedeliveredCount,
    RedeliveredOut,
    RedeliverIn,
    parse_delivery_id,
    shown_delivery,
    shown_in_full,
)
from relay.admin.feed import SEARCH_S
from relay.admin.ledger import Found, Ledger
from relay.admin.listing import Listing
from relay.admin.pages import json_response, page_response
from relay.admin.problems import not_found
from relay.admin.redelivery import Redelivery
from relay.admin.requests import read_model, read_query
from relay.admin.routes import Route
from relay.admin.security import audit
from relay.admin.waits import Waits
from relay.core.log import Entry
from relay.core.subscriber import Subscriber
from relay.store import Store


class Deliveries:
    """The routes below /v1/deliveries."""

    def __init__(self, store: Store, max_attempts: int) -> None:
        self._store = store
        self._ledger = Ledger(store, max_attempts)
        self._listing = Listing(store, self._ledger)
        self._redelivery = Redelivery(store, self._ledger)

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        path = "/v1/deliveries"
        again = (
            "Make a delivery again, whatever became of it; if its subscriber is disabled, once that is enabled, and if "
            "it waits for an earlier event of its entity, in its turn"
        )
        many = "Make all deliveries again that a filter names; if it is cut short, call it again"
        return (
            Route("GET", path, self._list, "List deliveries", {200: DeliverySummary}, query=DeliveriesQuery, page=True),
            Route(
                "POST",
                f"{path}/redeliver",
                self._redeliver_many,
                many,
                {202: RedeliveredCount},
                body=RedeliverIn,
                problems=(404,),
            ),
            Route("GET", f"{path}/{{id}}", self._get, "Show a delivery with its attempts", {200: DeliveryInFull}),
            Route("POST", f"{path}/{{id}}/redeliver", self._redeliver, again, {202: RedeliveredOut}, problems=(410,)),
        )

    async def _list(self, request: web.Request) -> web.Response:
        query = read_query(request, DeliveriesQuery)
        until = asyncio.get_running_loop().time() + SEARCH_S
        found, following = await self._listing.page(query)
        while not found and following is not None and asyncio.get_running_loop().time() < until:
            query = query.model_copy(update={"cursor": query.following(following)})
            found, following = await self._listing.page(query)
        waits = await self._waits({one.subscriber_id for one in found if one.status == "pending"})
        shown = [shown_delivery(waits.timed(one), waits.briefly(one)) for one in found]
        return page_response(shown, query.following(following))

    async def _get(self, request: web.Request) -> web.Response:
        ids = parse_delivery_id(request.match_info["id"])
        entry = None if ids is None else await self._store.log.find(ids[1])
        if ids is None or entry is None:
            raise not_found("delivery")
        subscriber = await self._store.registry.get(ids[0])
        found = await self._ledger.look_up(ids[0], entry, subscriber, Budget())
        if found is None:
            raise not_found("delivery")
        return json_response(await self._in_full(found, entry, subscriber))

    async def _redeliver(self, request: web.Request) -> web.Response:
        ids = parse_delivery_id(request.match_info["id"])
        if ids is None:
            raise not_found("delivery")
        found, subscriber, entry = await self._redelivery.one(*ids)
        audit(request, "delivery.redeliver", request.match_info["id"])
        waits = await Waits.of(self._store, [subscriber])
        in_turn = IN_TURN if found.state.behind else None
        note = (waits.note(subscriber) or in_turn) if found.seen.status == "pending" else None
        return json_response({**await self._in_full(found, entry, subscriber), "note": note}, 202)

    async def _waits(self, subscriber_ids: Iterable[str]) -> Waits:
        """About these subscribers; those that were deleted meanwhile have none."""
        known = [await self._store.registry.get(one) for one in sorted(subscriber_ids)]
        return await Waits.of(self._store, [one for one in known if one is not None])

    async def _in_full(self, found: Found, entry: Entry, subscriber: Subscriber | None) -> dict[str, Any]:
        if subscriber is None:
            return {**shown_in_full(found), "waits": []}
        waits = await Waits.of(self._store, [subscriber])
        told = await waits.explain(subscriber, entry, found)
        return {**shown_in_full(replace(found, seen=waits.timed(found.seen))), "waits": told}

    async def _redeliver_many(self, request: web.Request) -> web.Response:
        wanted = await read_model(request, RedeliverIn)
        subscribers = await self._meant(wanted.subscriber_id)
        entry = None if wanted.event_id is None else await self._store.log.find(wanted.event_id)
        if wanted.event_id is not None and entry is None:
            raise not_found("event")
        audit(request, "deliveries.redeliver", wanted.event_id or wanted.subscriber_id or "*")
        ids, only = [one.id for one in subscribers], wanted.conditions()
        if entry is not None:
            count = await self._redelivery.of_event(entry, subscribers, wanted.status, only)
        elif wanted.status == "dead":
            count = sum([await self._redelivery.dead(one, only) for one in ids])
        elif wanted.status == "pending":
            count = await self._redelivery.waiting(ids, only)
        else:
            count = await self._redelivery.delivered(ids, only)
        return json_response({"count": count, "note": await self._note(subscribers) if count else None}, 202)

    async def _note(self, subscribers: Sequence[Subscriber]) -> str | None:
        waits = await Waits.of(self._store, subscribers)
        notes = Counter(note for one in subscribers if (note := waits.note(one)))
        if len(subscribers) == 1 or not notes:
            return next(iter(notes), None)
        return f"{notes.total()} of the subscribers that this names rest or are disabled: what is theirs waits for them"

    async def _meant(self, subscriber_id: str | None) -> Sequence[Subscriber]:
        if subscriber_id is None:
            return await self._store.registry.all()
        subscriber = await self._store.registry.get(subscriber_id)
        if subscriber is None:
            raise not_found("subscriber")
        return [subscriber]
