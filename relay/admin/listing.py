"""Pages of deliveries, each kind from where it stands in order.

- one event: its subscribers, by id;
- dead: the dead letters, the latest first;
- pending: the retries by due time, then what is queued, subscriber by subscriber in the order of sending;
- everything else: the attempts, the latest first, of each delivery its latest only. A first page without a status
  begins with what has not been attempted yet, in part: the whole queue is the list of what is pending.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from relay.admin.attempt_walk import AttemptWalk, Budget, WalkKey
from relay.admin.delivery_schema import DeliveriesQuery
from relay.admin.ledger import DeliveryStatus, Ledger, Seen
from relay.admin.pages import Count, NameCursor, decode_cursor
from relay.core.log import START, Attempt, Entry, Place
from relay.core.matching import matches
from relay.core.retry import Verdict
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.keys import SHARDS, shard_of

WALK_GROUPS: Final = 300
SCAN: Final = 2000
"""Entries of the log, or retries, that are looked at for one page."""
_CHUNK: Final = 250


class WalkCursor(msgspec.Struct, frozen=True, array_like=True, tag="attempt"):
    """The last attempt that was looked at."""

    ms: Count
    no: Count
    shard: Count
    index: Count


class DeadCursor(msgspec.Struct, frozen=True, array_like=True, tag="dead"):
    """The last dead letter."""

    ms: Count
    subscriber_id: str
    place: str


class RetryCursor(msgspec.Struct, frozen=True, array_like=True, tag="retry"):
    """The last retry."""

    due_ms: Count
    member: str


class QueueCursor(msgspec.Struct, frozen=True, array_like=True, tag="queue"):
    """How far whose queue was read."""

    subscriber_id: str
    ms: Count
    no: Count


Page = tuple[list[Seen], msgspec.Struct | None]


class Listing:
    """Answers one kind of query each."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    async def page(self, query: DeliveriesQuery) -> Page:
        """The page, and where the next one begins (None: this was the last)."""
        subscribers = await self._subscribers(query.subscriber_id)
        if query.event_id is not None:
            return await self._of_event(query, query.event_id, subscribers)
        if query.status == "dead":
            return await self._dead(query, subscribers)
        if query.status == "pending":
            return await self._pending(query, subscribers)
        return await self._attempted(query, subscribers)

    async def _subscribers(self, subscriber_id: str | None) -> list[Subscriber]:
        """Those in question, by id."""
        if subscriber_id is None:
            return sorted(await self._store.registry.all(), key=lambda one: one.id)
        subscriber = await self._store.registry.get(subscriber_id)
        return [] if subscriber is None else [subscriber]

    async def _of_event(self, query: DeliveriesQuery, event_id: str, subscribers: Sequence[Subscriber]) -> Page:
        after = decode_cursor(query.cursor, NameCursor).key if query.cursor else ""
        entry = await self._store.log.find(event_id)
        if entry is None:
            return [], None
        targets: list[tuple[str, Subscriber | None]] = [(one.id, one) for one in subscribers]
        if query.subscriber_id is not None and not targets:
            targets = [(query.subscriber_id, None)]
        targets = [one for one in targets if one[0] > after]
        states = await self._ledger.states([(subscriber_id, entry.place) for subscriber_id, _ in targets])
        budget, found = Budget(), list[Seen]()
        for (subscriber_id, subscriber), state in zip(targets, states, strict=True):
            idle = state.waiting_attempt_no is None and state.dead_at_ms is None
            if idle and subscriber is not None and not matches(subscriber, entry.event_type, entry.payload):
                continue
            looked_up = await self._ledger.look_up(subscriber_id, entry, subscriber, budget)
            if looked_up is not None and query.status in (None, looked_up[0].status):
                found.append(looked_up[0])
            if (len(found) == query.limit or budget.groups <= 0) and subscriber_id != targets[-1][0]:
                return found, NameCursor(subscriber_id)
        return found, None

    async def _dead(self, query: DeliveriesQuery, subscribers: Sequence[Subscriber]) -> Page:
        cursor = decode_cursor(query.cursor, DeadCursor) if query.cursor else None
        before = None if cursor is None else (cursor.ms, cursor.subscriber_id, cursor.place)
        ids = [one.id for one in subscribers]
        letters = await self._store.deliveries.dead_before(ids, before, query.limit + 1) if ids else []
        page = letters[: query.limit]
        entries = await self._entries([place for _, _, place in page])
        numbers = await self._ledger.last_attempts(page)
        found = [
            Seen(subscriber_id, entry.event_id, entry.event_type, "dead", number)
            for (_, subscriber_id, _), entry, number in zip(page, entries, numbers, strict=True)
            if entry is not None  # else its retention has ended, and nothing can be said or done about it
        ]
        if len(letters) == len(page):
            return found, None
        at, subscriber_id, place = page[-1]
        return found, DeadCursor(at, subscriber_id, str(place))

    async def _pending(self, query: DeliveriesQuery, subscribers: Sequence[Subscriber]) -> Page:
        cursor = decode_cursor(query.cursor, RetryCursor | QueueCursor) if query.cursor else RetryCursor(0, "")
        found: list[Seen] = []
        if isinstance(cursor, RetryCursor):
            found, following = await self._retries(query, subscribers, cursor)
            if following is not None:
                return found, following
            cursor = None
        queued, more = await self._queued(subscribers, cursor, query.limit - len(found))
        return found + queued, more

    async def _retries(
        self, query: DeliveriesQuery, subscribers: Sequence[Subscriber], cursor: RetryCursor
    ) -> tuple[list[Seen], RetryCursor | None]:
        ids = {one.id for one in subscribers}
        shards = sorted({shard_of(one) for one in ids})
        found: list[Seen] = []
        for _ in range(SCAN // _CHUNK) if shards else ():
            batch = await self._store.deliveries.waiting_after(shards, (cursor.due_ms, cursor.member), _CHUNK)
            entries = await self._entries([one.place for _, one in batch])
            for (due, one), entry in zip(batch, entries, strict=True):
                if len(found) == query.limit:
                    return found, cursor
                cursor = RetryCursor(due, str(one))
                if one.subscriber_id in ids and entry is not None:
                    made = one.attempt_no - 1
                    found.append(Seen(one.subscriber_id, entry.event_id, entry.event_type, "pending", made, due))
            if len(batch) < _CHUNK:
                return found, None
        return found, cursor if shards else None

    async def _queued(
        self, subscribers: Sequence[Subscriber], cursor: QueueCursor | None, limit: int
    ) -> tuple[list[Seen], QueueCursor | None]:
        """What stands in the log after the subscribers' cursors and was not attempted yet."""
        if cursor is not None:
            subscribers = [one for one in subscribers if one.id >= cursor.subscriber_id]
        states = await self._ledger.states([(one.id, START) for one in subscribers])
        end, scan, found = await self._store.log.end(), SCAN, list[Seen]()
        for subscriber, state in zip(subscribers, states, strict=True):
            start = state.cursor
            if cursor is not None and cursor.subscriber_id == subscriber.id:
                start = max(start, Place(cursor.ms, cursor.no))
            while start < end:
                if scan <= 0 or len(found) >= limit:
                    return found, QueueCursor(subscriber.id, start.ms, start.no)
                chunk = await self._store.log.after(start, end, _CHUNK)
                scan -= max(len(chunk), 1)
                wanted = [one for one in chunk if matches(subscriber, one.event_type, one.payload)]
                room = limit - len(found)
                fresh = await self._unattempted(subscriber.id, wanted[:room])
                found += [Seen(subscriber.id, one.event_id, one.event_type, "pending", 0) for one in fresh]
                read_to = chunk[-1].place if len(chunk) == _CHUNK else end
                start = wanted[room - 1].place if len(wanted) > room else read_to
        return found, None

    async def _unattempted(self, subscriber_id: str, entries: Sequence[Entry]) -> list[Entry]:
        deliveries = [(subscriber_id, one.place) for one in entries]
        states = await self._ledger.states(deliveries)
        lately = await self._ledger.attempted_lately(deliveries)
        return [
            one
            for one, state in zip(entries, states, strict=True)
            if state.waiting_attempt_no is None
            and state.dead_at_ms is None
            and (subscriber_id, str(one.place)) not in lately
        ]

    async def _attempted(self, query: DeliveriesQuery, subscribers: Sequence[Subscriber]) -> Page:
        found: list[Seen] = []
        before: WalkKey | None = None
        if query.cursor is not None:
            cursor = decode_cursor(query.cursor, WalkCursor)
            before = WalkKey(Place(cursor.ms, cursor.no), cursor.shard, cursor.index)
        elif query.status is None:
            found = await self._unattempted_head(query, subscribers)
        shards = range(SHARDS) if query.subscriber_id is None else [shard_of(query.subscriber_id)]
        budget, alive, ended = Budget(WALK_GROUPS), {one.id for one in subscribers}, False
        walk = self._ledger.walk(shards, before, budget)
        while not ended:
            batch = await _take(walk)
            await asyncio.sleep(0)  # much of a walk is in memory: let others have their turn
            ended = len(batch) < _CHUNK
            shown = await self._latest([attempt for _, attempt in batch], query, alive)
            for (key, _), seen in zip(batch, shown, strict=True):
                if len(found) == query.limit:
                    return found, _walk_cursor(before)
                before = key
                if seen is not None:
                    found.append(seen)
        return found, _walk_cursor(before) if budget.groups <= 0 else None

    async def _unattempted_head(self, query: DeliveriesQuery, subscribers: Sequence[Subscriber]) -> list[Seen]:
        """The beginning of what is pending without an attempt; at most half a page."""
        retries, _ = await self._retries(query, subscribers, RetryCursor(0, ""))
        parked = [one for one in retries if not one.attempts]  # under way for long
        queued, _ = await self._queued(subscribers, None, query.limit // 2)
        return (parked + queued)[: query.limit // 2]

    async def _latest(self, attempts: Sequence[Attempt], query: DeliveriesQuery, alive: set[str]) -> list[Seen | None]:
        """For each attempt its delivery, if it is the delivery's latest and the delivery is asked for."""
        retries = [one for one in attempts if one.verdict == Verdict.RETRY]
        states = await self._ledger.states([(one.subscriber_id, Place.parse(one.place)) for one in retries])
        waiting = {id(one): state for one, state in zip(retries, states, strict=True)}
        found: list[Seen | None] = []
        for one in attempts:
            status: DeliveryStatus | None = None
            state = waiting.get(id(one))
            if query.subscriber_id not in (None, one.subscriber_id):
                pass
            elif state is None:
                status = "delivered" if one.verdict == Verdict.DELIVERED else "dead"
            elif state.waiting_attempt_no is not None:
                status = "pending" if state.waiting_attempt_no > one.attempt_no else None
            elif one.subscriber_id not in alive and await self._is_last(one):
                status = "cancelled"
            due = state.waiting_until_ms if state else None
            found.append(_seen(one, status, due) if status and query.status in (None, status) else None)
        return found

    async def _is_last(self, attempt: Attempt) -> bool:
        """Whether none followed; asked only for retries of subscribers that were deleted."""
        history = await self._ledger.history(attempt.subscriber_id, Place.parse(attempt.place), Budget())
        return history.last == attempt

    async def _entries(self, places: Sequence[Place]) -> Sequence[Entry | None]:
        return await self._store.log.at(places) if places else []


def _seen(attempt: Attempt, status: DeliveryStatus, next_ms: int | None) -> Seen:
    return Seen(attempt.subscriber_id, attempt.event_id, attempt.event_type, status, attempt.attempt_no, next_ms)


def _walk_cursor(key: WalkKey | None) -> WalkCursor | None:
    return None if key is None else WalkCursor(key.place.ms, key.place.no, key.shard, key.position)


async def _take(walk: AttemptWalk) -> list[tuple[WalkKey, Attempt]]:
    batch = []
    async for one in walk:
        batch.append(one)
        if len(batch) == _CHUNK:
            break
    return batch
