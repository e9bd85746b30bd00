"""POST /v1/subscribers/{id}/reconcile: bring a subscriber up to date with the last state of every entity.

The log is walked from its end; of each entity only the latest event counts, and it is sent if it matches the subscriber
and was not acknowledged. What is queued comes anyway. An event that was never a delivery, because it is older than the
subscriber or than its filter, was not acknowledged either: that is what one reconciles for.

What was acknowledged is told as for a replay: see `relay.arrears`.
"""

import asyncio
from collections.abc import Mapping, Sequence
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
from relay.core.subscriber import Subscriber, moment_ms
from relay.store import Store
from relay.store.delivery_state import Order

_CHUNK: Final = 250
_DOUBTFUL: Final = 20_000
"""So many events are looked for in the record of attempts at a time."""
_OWN_TYPES: Final = "relay."


class SentByReason(Described):
    """Why each of them was not acknowledged."""

    dead: int
    """Given up after its whole schedule, or because the relay could not send it."""
    put_off: int
    """It was waiting for a retry, which is made at once."""
    before_registration: int
    """It is older than the subscriber, which had never been sent it."""
    unacknowledged: int
    """It was never sent, because the filter was another one then, or no attempt on record has delivered it."""


class ReconcileOut(Described):
    """What was done."""

    model_config = ConfigDict(
        json_schema_extra=example(
            {
                "entities": 304,
                "sent": 7,
                "sent_by_reason": {"dead": 2, "put_off": 1, "before_registration": 4, "unacknowledged": 0},
            }
        )
    )

    entities: int
    """Entities whose latest event is for this subscriber."""
    sent: int
    """Events that were made due now; what was queued or due already is not counted."""
    sent_by_reason: SentByReason


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
        body = {"entities": walk.entities, "sent": sum(walk.sent.values()), "sent_by_reason": walk.sent}
        return json_response(body, 202)


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
        self.sent = {"dead": 0, "put_off": 0, "before_registration": 0, "unacknowledged": 0}

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
        orders: dict[str, list[Order]] = {"dead": [], "put_off": []}
        for place, state in zip(places, states, strict=True):
            if state.waiting_attempt_no is None and state.dead_at_ms is None:
                if place <= state.cursor and state.asked_ms is None and certainty.in_doubt(place):
                    self._doubtful.append(place)
            elif order := order_for("pending", state, place):
                orders["dead" if order.kind == "dead" else "put_off"].append(order)
        await self._send(orders)

    async def _send(self, orders: Mapping[str, Sequence[Order]]) -> None:
        for reason, some in orders.items():
            self.sent[reason] += await self._redelivery.make(self._subscriber.id, some)

    async def _clear_doubts(self) -> None:
        """Send what no attempt on record has delivered."""
        doubts = Doubts(self._store.deliveries, self._subscriber.id, self._doubtful)
        self._doubtful = []
        await doubts.read()
        created_ms = moment_ms(self._subscriber.created_at)
        orders: dict[str, list[Order]] = {"before_registration": [], "unacknowledged": []}
        for place in doubts.unproven.values():
            reason = "before_registration" if place.ms < created_ms else "unacknowledged"
            orders[reason].append(Order(place, "settled"))
        await self._send(orders)
