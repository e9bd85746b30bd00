"""POST /v1/subscribers/{id}/reconcile: bring a subscriber up to date with the last state of every entity.

The log is walked from its end; of each entity only the latest event counts, and it is sent if it matches the subscriber
and was not acknowledged. What is queued comes anyway. An event that was never a delivery, because it is older than the
subscriber or than its filter, was not acknowledged either: that is what one reconciles for.

What was acknowledged is told as for a replay: see `relay.arrears`.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from aiohttp import web
from pydantic import ConfigDict

from relay.admin.fields import Described, example
from relay.admin.ledger import Ledger
from relay.admin.pages import json_response
from relay.admin.problems import ProblemError
from relay.admin.redelivery import Redelivery, order_for
from relay.admin.routes import Route
from relay.admin.security import audit
from relay.admin.subscribers import find_subscriber
from relay.arrears import Certainty, Doubts
from relay.core.log import Entry, Place
from relay.core.matching import matches
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.delivery_state import Order

_CHUNK: Final = 250
_DOUBTFUL: Final = 20_000
"""So many events are looked for in the record of attempts at a time."""
_OWN_TYPES: Final = "relay."


class ReconcileOut(Described):
    """What was done."""

    model_config = ConfigDict(json_schema_extra=example({"entities": 304, "sent": 7}))

    entities: int
    """Entities whose latest event is for this subscriber."""
    sent: int
    """Events that were made due now; what was queued or due already is not counted."""


class Reconcile:
    """Reconciles, each subscriber once at a time."""

    def __init__(self, store: Store, max_attempts: int) -> None:
        self._store = store
        self._ledger = Ledger(store, max_attempts)
        self._redelivery = Redelivery(store, self._ledger)
        self._under_way: set[str] = set()

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        summary = "Send, for every entity, only the latest event, if the subscriber has not acknowledged it"
        return (Route("POST", "/v1/subscribers/{id}/reconcile", self._reconcile, summary, {202: ReconcileOut}),)

    async def _reconcile(self, request: web.Request) -> web.Response:
        subscriber = await find_subscriber(self._store.registry, request)
        if subscriber.id in self._under_way:
            raise ProblemError("conflict", "this subscriber is being reconciled: wait for that answer")
        self._under_way.add(subscriber.id)
        try:
            audit(request, "subscriber.reconcile", subscriber.id)
            walk = _Walk(self._store, self._ledger, self._redelivery, subscriber)
            await walk.run()
        finally:
            self._under_way.discard(subscriber.id)
        return json_response({"entities": walk.entities, "sent": walk.sent}, 202)


class _Walk:
    """One pass over the log. It keeps a number per entity, and a bounded list of what is still in doubt."""

    def __init__(self, store: Store, ledger: Ledger, redelivery: Redelivery, subscriber: Subscriber) -> None:
        self._store = store
        self._ledger = ledger
        self._redelivery = redelivery
        self._subscriber = subscriber
        self._known: set[int] = set()
        self._doubtful: list[Place] = []
        self.entities = 0
        self.sent = 0

    async def run(self) -> None:
        """Walk; what is minted meanwhile is sent as ever."""
        certainty = await Certainty.of(self._store.deliveries, self._subscriber)
        before: Place | None = None
        while chunk := await self._store.log.before(before, _CHUNK):
            before = chunk[-1].place
            latest = [one.place for one in chunk if self._is_latest(one) and self._wants(one)]
            await self._settle(latest, certainty)
            if len(self._doubtful) >= _DOUBTFUL:
                await self._clear_doubts()
            await asyncio.sleep(0)
        await self._clear_doubts()

    def _is_latest(self, entry: Entry) -> bool:
        """Whether no later event of its entity was met; entities are remembered by a 64-bit hash."""
        entity = hash((entry.source, entry.entity_id))
        if entry.event_type.startswith(_OWN_TYPES) or entity in self._known:
            return False
        self._known.add(entity)
        return True

    def _wants(self, entry: Entry) -> bool:
        return matches(self._subscriber, entry.event_type, entry.payload)

    async def _settle(self, places: Sequence[Place], certainty: Certainty) -> None:
        self.entities += len(places)
        states = await self._ledger.states([(self._subscriber.id, place) for place in places])
        orders = []
        for place, state in zip(places, states, strict=True):
            if state.waiting_attempt_no is None and state.dead_at_ms is None:
                if place <= state.cursor and state.asked_ms is None and certainty.in_doubt(place):
                    self._doubtful.append(place)
            elif order := order_for("pending", state, place):
                orders.append(order)
        self.sent += await self._redelivery.make(self._subscriber.id, orders)

    async def _clear_doubts(self) -> None:
        """Send what no attempt on record has delivered."""
        doubts = Doubts(self._store.deliveries, self._subscriber.id, self._doubtful)
        self._doubtful = []
        await doubts.read()
        orders = [Order(place, "settled") for place in doubts.unproven.values()]
        self.sent += await self._redelivery.make(self._subscriber.id, orders)
