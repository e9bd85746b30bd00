"""Deliveries: what became of an event on its way to a subscriber."""

from collections.abc import Sequence

from aiohttp import web

from relay.admin.attempt_walk import Budget
from relay.admin.delivery_schema import (
    DeliveriesQuery,
    DeliveryOut,
    DeliverySummary,
    parse_delivery_id,
    shown_delivery,
    shown_in_full,
)
from relay.admin.ledger import Ledger
from relay.admin.listing import Listing
from relay.admin.pages import json_response, page_response
from relay.admin.problems import not_found
from relay.admin.requests import read_query
from relay.admin.routes import Route
from relay.store import Store


class Deliveries:
    """The routes below /v1/deliveries."""

    def __init__(self, store: Store, max_attempts: int) -> None:
        self._store = store
        self._ledger = Ledger(store, max_attempts)
        self._listing = Listing(store, self._ledger)

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        path = "/v1/deliveries"
        return (
            Route("GET", path, self._list, "List deliveries", {200: DeliverySummary}, query=DeliveriesQuery),
            Route("GET", f"{path}/{{id}}", self._get, "Show a delivery with its attempts", {200: DeliveryOut}),
        )

    async def _list(self, request: web.Request) -> web.Response:
        found, following = await self._listing.page(read_query(request, DeliveriesQuery))
        return page_response([shown_delivery(one) for one in found], following)

    async def _get(self, request: web.Request) -> web.Response:
        ids = parse_delivery_id(request.match_info["id"])
        entry = None if ids is None else await self._store.log.find(ids[1])
        if ids is None or entry is None:
            raise not_found("delivery")
        subscriber = await self._store.registry.get(ids[0])
        looked_up = await self._ledger.look_up(ids[0], entry, subscriber, Budget())
        if looked_up is None:
            raise not_found("delivery")
        return json_response(shown_in_full(*looked_up))
