"""Making deliveries again: one, or all that a filter names.

A delivery is never copied: the same event with the same id is put among the retries, due now, and what becomes of it is
recorded as ever. It takes part in no deduplication, so a delivered one goes out again too.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from relay.admin.attempt_walk import Budget
from relay.admin.dead_letters import Conditions, DeadLetters, LetterKey
from relay.admin.ledger import DeliveryStatus, Found, Ledger
from relay.admin.listing import take
from relay.admin.problems import ProblemError, erased
from relay.core.log import SHELVED_MS, Attempt, Entry, Place, Waiting
from relay.core.retry import Verdict
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.delivery_state import DeliveryState, Order, Redelivered
from relay.store.keys import shard_of

BATCH: Final = 200
_TRIES: Final = 4
_WHOLE_RECORD: Final = 2**53

_GONE: Final = (
    "there is no such delivery, or its event has outlived its retention (RELAY_RETENTION__EVENTS_S): "
    "what is kept no longer cannot be sent again"
)
_CANCELLED: Final = "it was cancelled: its subscriber was deleted, or took this event out of its filter"
_UNSTEADY: Final = "attempts of it are being settled just now: look at it, then try again"


def order_for(status: DeliveryStatus, state: DeliveryState, place: Place) -> Order | None:
    """What makes a delivery go out now; None: it is queued and goes out by itself."""
    if state.waiting_attempt_no is not None:
        return Order(place, "waiting", state.waiting_attempt_no)
    if state.dead_at_ms is not None:
        return Order(place, "dead")
    return None if status == "pending" else Order(place, "settled", state.asked_ms or 0)


class Redelivery:
    """Writes only through the store's one script, so that whatever it decides is decided on what still holds."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self._letters = DeadLetters(store, ledger)

    async def one(self, subscriber_id: str, event_id: str) -> tuple[Found, Subscriber, Entry]:
        """Make one delivery again; how it stands now. Raises `ProblemError`."""
        for _ in range(_TRIES):
            entry = await self._store.log.find(event_id)
            subscriber = await self._store.registry.get(subscriber_id)
            if entry is None:
                raise ProblemError("not-found", _GONE)
            if entry.erased:
                raise erased()
            found = await self._ledger.look_up(subscriber_id, entry, subscriber, Budget())
            if found is None:
                raise ProblemError("not-found", _GONE)
            if subscriber is None or found.seen.status == "cancelled":
                raise ProblemError("conflict", _CANCELLED)
            result = await self._make(found, entry)
            if result in (Redelivered.DONE, Redelivered.DUE_ALREADY, Redelivered.IN_TURN):
                again = await self._ledger.look_up(subscriber_id, entry, subscriber, Budget())
                return again or found, subscriber, entry
        raise ProblemError("conflict", _UNSTEADY)

    async def _make(self, found: Found, entry: Entry) -> Redelivered:
        order = order_for(found.seen.status, found.state, entry.place)
        if order is None:
            return Redelivered.DUE_ALREADY
        (result,) = await self._store.deliveries.redeliver(found.seen.subscriber_id, [order])
        return result

    async def of_event(self, entry: Entry, subscribers: Iterable[Subscriber], status: str, only: Conditions) -> int:
        """Make the deliveries of one event again that are in this status; how many."""
        count = 0
        for subscriber in subscribers:
            found = await self._ledger.look_up(subscriber.id, entry, subscriber, Budget())
            if found is not None and found.seen.status == status and only.admit(found.seen):
                count += await self._make(found, entry) is Redelivered.DONE
        return count

    async def dead(self, subscriber_id: str, only: Conditions) -> int:
        """Make dead letters again, in the order of the log; how many. What dies again meanwhile is left alone."""
        chosen: list[Order] = []
        before: LetterKey | None = None
        while True:
            letters = await self._letters.read([subscriber_id], before, BATCH, attempts=only.cause is not None)
            chosen += [Order(one.seen.place, "dead") for one in letters if one.kept and only.admit(one.seen)]
            # A delivery dies after its event was minted, so beyond this there is none of that time.
            if len(letters) < BATCH or letters[-1].key[0] < only.since_ms:
                return await self.make(subscriber_id, sorted(chosen, key=lambda one: one.place))
            before = letters[-1].key

    async def waiting(self, subscriber_ids: Sequence[str], only: Conditions) -> int:
        """Let those that wait for their next attempt go now; how many were not due yet.

        Whoever fails again meanwhile waits again: what this call has made due once it leaves alone.
        """
        ids, shards = set(subscriber_ids), sorted({shard_of(one) for one in subscriber_ids})
        begun_ms, count, after = await self._store.deliveries.now_ms(), 0, (0, "")
        while shards:
            batch = await self._store.deliveries.waiting_after(shards, after, BATCH)
            entries = await self._store.log.at([one.place for _, one in batch]) if batch else []
            chosen: dict[str, list[Order]] = {}
            for (due_ms, one), entry in zip(batch, entries, strict=True):
                meant = entry is not None and only.admit_event(entry.event_type, entry.place)
                if meant and begun_ms < due_ms < SHELVED_MS and one.subscriber_id in ids:
                    chosen.setdefault(one.subscriber_id, []).append(Order(one.place, "waiting", one.attempt_no))
            for subscriber_id, orders in chosen.items():
                fresh = await self._not_asked_since(begun_ms, subscriber_id, orders)
                count += await self.make(subscriber_id, fresh)
            if len(batch) < BATCH or batch[-1][0] >= SHELVED_MS:  # from here on what waits is no matter of time
                return count
            after = (batch[-1][0], str(batch[-1][1]))
            await asyncio.sleep(0)
        return count

    async def _not_asked_since(self, begun_ms: int, subscriber_id: str, orders: Sequence[Order]) -> list[Order]:
        """Those whose attempt before was not asked for by this very call."""
        before = [Waiting(subscriber_id, one.place, one.number - 1) for one in orders]
        asked = await self._store.deliveries.asked_each(before)
        return [one for one, at in zip(orders, asked, strict=True) if at is None or at < begun_ms]

    async def delivered(self, subscriber_ids: Sequence[str], only: Conditions) -> int:
        """Make again what is on record as delivered, the latest first; how many."""
        ids, shards = set(subscriber_ids), sorted({shard_of(one) for one in subscriber_ids})
        if not shards:
            return 0
        count, ended = 0, False
        walk = self._ledger.walk(shards, None, Budget(_WHOLE_RECORD))
        while not ended:
            batch = await take(walk)
            await asyncio.sleep(0)
            # An attempt follows its event, so beyond this there is none of that time.
            ended = not batch or batch[-1][0].place.ms < only.since_ms
            chosen = {
                (one.subscriber_id, one.place): key.place.ms
                for key, one in reversed(batch)
                if one.subscriber_id in ids and one.verdict == Verdict.DELIVERED and _admits(only, one)
            }
            firsts = [Waiting(subscriber_id, Place.parse(place), 1) for subscriber_id, place in chosen]
            orders: dict[str, list[Order]] = {}
            for first, at, asked_ms in zip(
                firsts, chosen.values(), await self._store.deliveries.asked_each(firsts), strict=True
            ):
                if asked_ms is None or at > asked_ms:  # else it is of a former round
                    orders.setdefault(first.subscriber_id, []).append(Order(first.place, "settled", asked_ms or 0))
            for subscriber_id, some in orders.items():
                count += await self.make(subscriber_id, some)
        return count

    async def make(self, subscriber_id: str, orders: Sequence[Order]) -> int:
        """Carry out any number of orders; how many of them have put something among what is due."""
        count = 0
        for at in range(0, len(orders), BATCH):
            results = await self._store.deliveries.redeliver(subscriber_id, orders[at : at + BATCH])
            count += results.count(Redelivered.DONE)
            await asyncio.sleep(0)
        return count


def _admits(only: Conditions, one: Attempt) -> bool:
    return only.admit_event(one.event_type, Place.parse(one.place))
