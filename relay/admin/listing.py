"""Pages of deliveries, each kind from where it stands in order.

- one event: its subscribers, by id;
- dead: the dead letters, the latest first;
- pending: the retries by due time, then what is queued, subscriber by subscriber in the order of sending;
- everything else: the attempts, the latest first, of each delivery its latest only. Without a status the first page
  begins with some of what has not been attempted yet, and the last ones hold the rest of that: nothing is left out.

Each page looks at so much and no more: with a rare condition it may be short, or empty, and still not the last.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from relay.admin.attempt_walk import AttemptWalk, Budget, WalkKey
from relay.admin.dead_letters import Conditions, DeadLetters
from relay.admin.delivery_schema import DeliveriesQuery
from relay.admin.ledger import DeliveryStatus, Ledger, Seen, cause_of
from relay.admin.pages import Count, NameCursor
from relay.admin.pending import CHUNK, SCAN, Pending, PendingCursor, QueueCursor, RetryCursor
from relay.core.log import Attempt, Place, Waiting
from relay.core.matching import matches
from relay.core.retry import Verdict
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.delivery_state import DeliveryState
from relay.store.keys import SHARDS, shard_of

WALK_GROUPS: Final = 300


class WalkCursor(msgspec.Struct, frozen=True, array_like=True, tag="attempt"):
    """The last attempt that was looked at."""

    ms: Count
    no: Count
    shard: Count
    index: Count
    rest: RetryCursor | QueueCursor | None = None
    """Where the rest of what was not attempted yet begins, which follows the attempts."""


class DeadCursor(msgspec.Struct, frozen=True, array_like=True, tag="dead"):
    """The last dead letter."""

    ms: Count
    subscriber_id: str
    place: str


_TOP: Final = WalkKey(Place(2**53, 0), 0, 0)
"""Before the latest attempt of all."""

Page = tuple[list[Seen], msgspec.Struct | None]


class Listing:
    """Answers one kind of query each."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self._letters = DeadLetters(store, ledger)
        self._pending = Pending(store, ledger)

    async def page(self, query: DeliveriesQuery) -> Page:
        """The page, and where the next one begins (None: this was the last)."""
        subscribers, only = await self._subscribers(query.subscriber_id), query.conditions()
        if query.event_id is not None:
            return await self._of_event(query, query.event_id, subscribers, only)
        if query.status == "dead":
            return await self._dead(query, [one.id for one in subscribers], only)
        if query.status == "pending":
            return await self._pending.page(subscribers, only, query.place(PendingCursor), query.limit)
        return await self._attempted(query, subscribers, only)

    async def _subscribers(self, subscriber_id: str | None) -> list[Subscriber]:
        """Those in question, by id."""
        if subscriber_id is None:
            return sorted(await self._store.registry.all(), key=lambda one: one.id)
        subscriber = await self._store.registry.get(subscriber_id)
        return [] if subscriber is None else [subscriber]

    async def _of_event(
        self, query: DeliveriesQuery, event_id: str, subscribers: Sequence[Subscriber], only: Conditions
    ) -> Page:
        begun = query.place(NameCursor)
        entry = await self._store.log.find(event_id)
        if entry is None:
            return [], None
        targets: list[tuple[str, Subscriber | None]] = [(one.id, one) for one in subscribers]
        if query.subscriber_id is not None and not targets:
            targets = [(query.subscriber_id, None)]
        targets = [one for one in targets if begun is None or one[0] > begun.key]
        states = await self._ledger.states([(subscriber_id, entry.place) for subscriber_id, _ in targets])
        budget, page, looked_at = Budget(), list[Seen](), ""
        for (subscriber_id, subscriber), state in zip(targets, states, strict=True):
            idle = state.waiting_attempt_no is None and state.dead_at_ms is None and state.asked_ms is None
            if idle and subscriber is not None and not matches(subscriber, entry.event_type, entry.payload):
                continue
            found = await self._ledger.look_up(subscriber_id, entry, subscriber, budget)
            if looked_at and budget.groups <= 0:  # it may have been given up: it is looked for again, from the start
                return page, NameCursor(looked_at)
            looked_at = subscriber_id
            if found is not None and query.status in (None, found.seen.status) and only.admit(found.seen):
                page.append(found.seen)
            if len(page) == query.limit and subscriber_id != targets[-1][0]:
                return page, NameCursor(subscriber_id)
        return page, None

    async def _dead(self, query: DeliveriesQuery, ids: Sequence[str], only: Conditions) -> Page:
        cursor = query.place(DeadCursor)
        before = None if cursor is None else (cursor.ms, cursor.subscriber_id, cursor.place)
        page, scanned = list[Seen](), 0
        count = (query.limit if only == Conditions() else CHUNK) + 1  # one more tells whether there are more
        while scanned < SCAN and len(page) < query.limit:
            letters = await self._letters.read(ids, before, count)
            scanned += len(letters)
            for letter in letters[: count - 1]:
                if len(page) == query.limit:
                    return page, _dead_cursor(before)
                before = letter.key
                if only.admit(letter.seen):
                    page.append(letter.seen)
            if len(letters) < count:
                return page, None
        return page, _dead_cursor(before)

    async def _attempted(self, query: DeliveriesQuery, subscribers: Sequence[Subscriber], only: Conditions) -> Page:
        found: list[Seen] = []
        before: WalkKey | None = None
        rest: PendingCursor | None = None
        kinds = WalkCursor | RetryCursor | QueueCursor if query.status is None else WalkCursor
        cursor = query.place(kinds)
        if isinstance(cursor, WalkCursor):
            before, rest = WalkKey(Place(cursor.ms, cursor.no), cursor.shard, cursor.index), cursor.rest
        elif cursor is not None:
            return await self._pending.page(subscribers, only, cursor, query.limit, unattempted=True)
        elif query.status is None:
            head = max(query.limit // 2, 1)
            found, rest = await self._pending.page(subscribers, only, None, head, unattempted=True)
        shards = range(SHARDS) if query.subscriber_id is None else [shard_of(query.subscriber_id)]
        budget, alive, ended = Budget(WALK_GROUPS), {one.id for one in subscribers}, False
        walk = self._ledger.walk(shards, before, budget)
        while not ended:
            batch = await take(walk)
            await asyncio.sleep(0)  # much of a walk is in memory: let others have their turn
            ended = len(batch) < CHUNK
            shown = await self._latest(batch, query, alive)
            for (key, _), seen in zip(batch, shown, strict=True):
                if len(found) == query.limit:
                    return found, _walk_cursor(before, rest)
                before = key
                if seen is not None and only.admit(seen):
                    found.append(seen)
        if budget.groups <= 0:
            return found, _walk_cursor(before, rest)
        return found, rest

    async def _latest(
        self, batch: Sequence[tuple[WalkKey, Attempt]], query: DeliveriesQuery, alive: set[str]
    ) -> list[Seen | None]:
        """For each attempt its delivery, if it is the delivery's latest and the delivery is asked for."""
        mine = [(key, one) for key, one in batch if query.subscriber_id in (None, one.subscriber_id)]
        firsts = [Waiting(one.subscriber_id, Place.parse(one.place), 1) for _, one in mine]
        again = await self._store.deliveries.asked_each(firsts)
        waiting = await self._waiting([one for _, one in mine if one.verdict == Verdict.RETRY])
        shown: dict[WalkKey, Seen] = {}
        for (key, one), asked_ms in zip(mine, again, strict=True):
            state = waiting.get((one.subscriber_id, one.place))
            status = _status(key, one, asked_ms, state)
            open_end = status is None and (state is None or state.waiting_attempt_no is None)
            if open_end and one.subscriber_id not in alive and await self._is_last(one):
                status = "cancelled"
            if status is not None and query.status in (None, status):
                shown[key] = _seen(one, status, state if status == "pending" else None)
        return [shown.get(key) for key, _ in batch]

    async def _waiting(self, attempts: Sequence[Attempt]) -> dict[tuple[str, str], DeliveryState]:
        states = await self._ledger.states([(one.subscriber_id, Place.parse(one.place)) for one in attempts])
        return {(one.subscriber_id, one.place): state for one, state in zip(attempts, states, strict=True)}

    async def _is_last(self, attempt: Attempt) -> bool:
        """Whether none followed; asked only for subscribers that were deleted."""
        history = await self._ledger.history(attempt.subscriber_id, Place.parse(attempt.place), Budget())
        return [*history.former, *history.attempts][-1:] == [attempt]


def _status(key: WalkKey, one: Attempt, asked_ms: int | None, state: DeliveryState | None) -> DeliveryStatus | None:
    """Status of the delivery if this is the latest attempt that counts, else None."""
    if asked_ms is not None and key.place.ms <= asked_ms:
        return None  # it belongs to a former round
    if one.verdict == Verdict.RETRY:
        return "pending" if state and state.waiting_attempt_no == one.attempt_no + 1 else None
    if one.verdict == Verdict.HELD:
        return None  # it is told as queued, or by the attempt before
    return "delivered" if one.verdict == Verdict.DELIVERED else "dead"


def _seen(attempt: Attempt, status: DeliveryStatus, state: DeliveryState | None) -> Seen:
    cause = cause_of(attempt) if status == "dead" else None
    place = Place.parse(attempt.place)
    next_ms, behind = (None, False) if state is None else (state.waiting_until_ms, state.behind)
    whose, what = (attempt.subscriber_id, place), (attempt.event_id, attempt.event_type)
    died_ms = attempt.started_ms + attempt.duration_ms if status == "dead" else None
    return Seen(*whose, *what, status, attempt.attempt_no, next_ms, cause, behind=behind, died_ms=died_ms)


def _walk_cursor(key: WalkKey | None, rest: PendingCursor | None) -> WalkCursor:
    at = key or _TOP
    return WalkCursor(at.place.ms, at.place.no, at.shard, at.position, rest)


def _dead_cursor(key: tuple[int, str, str] | None) -> DeadCursor | None:
    return None if key is None else DeadCursor(*key)


async def take(walk: AttemptWalk) -> list[tuple[WalkKey, Attempt]]:
    """The next chunk of a walk; a shorter one is the last."""
    batch = []
    async for one in walk:
        batch.append(one)
        if len(batch) == CHUNK:
            break
    return batch
