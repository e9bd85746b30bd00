"""What is to come: the retries by due time, then what is queued, subscriber by subscriber in the order of sending."""

from collections.abc import Sequence
from typing import Final

import msgspec

from relay.admin.dead_letters import Conditions
from relay.admin.ledger import Ledger, Seen
from relay.admin.pages import Count
from relay.core.log import BEHIND_MS, START, Entry, Place, due_at
from relay.core.matching import matches
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.keys import shard_of

SCAN: Final = 2000
"""Entries of the log, retries or dead letters that are looked at for one page."""
CHUNK: Final = 250


class RetryCursor(msgspec.Struct, frozen=True, array_like=True, tag="retry"):
    """The last retry."""

    due_ms: Count
    member: str


class QueueCursor(msgspec.Struct, frozen=True, array_like=True, tag="queue"):
    """How far whose queue was read."""

    subscriber_id: str
    ms: Count
    no: Count


PendingCursor = RetryCursor | QueueCursor


class Pending:
    """Pages of what is pending."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    async def page(
        self,
        subscribers: Sequence[Subscriber],
        only: Conditions,
        cursor: PendingCursor | None,
        limit: int,
        *,
        unattempted: bool = False,
    ) -> tuple[list[Seen], PendingCursor | None]:
        """The page, and where the next one begins (None: this was the last).

        `unattempted`: only those without an attempt that counts: queued, under way for long, or sent again.
        """
        cursor = RetryCursor(0, "") if cursor is None else cursor
        found: list[Seen] = []
        if isinstance(cursor, RetryCursor):
            found, following = await self._retries(subscribers, only, cursor, limit, unattempted=unattempted)
            if following is not None:
                return found, following
            cursor = None
        queued, more = await self._queued(subscribers, only, cursor, limit - len(found))
        return found + queued, more

    async def _retries(
        self, subscribers: Sequence[Subscriber], only: Conditions, cursor: RetryCursor, limit: int, *, unattempted: bool
    ) -> tuple[list[Seen], RetryCursor | None]:
        ids = {one.id for one in subscribers}
        shards = sorted({shard_of(one) for one in ids})
        found: list[Seen] = []
        for _ in range(SCAN // CHUNK) if shards else ():
            batch = await self._store.deliveries.waiting_after(shards, (cursor.due_ms, cursor.member), CHUNK)
            entries = await self._store.log.at([one.place for _, one in batch]) if batch else []
            for (due, one), entry in zip(batch, entries, strict=True):
                if len(found) == limit:
                    return found, cursor
                cursor = RetryCursor(due, str(one))
                if one.subscriber_id not in ids or entry is None or entry.erased:
                    continue
                if unattempted and one.attempt_no > 1:
                    continue
                if only.admit_event(entry.event_type, entry.place):
                    found.append(_seen(one.subscriber_id, entry, one.attempt_no - 1, due))
            if len(batch) < CHUNK:
                return found, None
        return found, cursor if shards else None

    async def _queued(
        self, subscribers: Sequence[Subscriber], only: Conditions, cursor: QueueCursor | None, limit: int
    ) -> tuple[list[Seen], QueueCursor | None]:
        """What stands in the log after the subscribers' cursors and was not settled yet."""
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
                chunk = await self._store.log.after(start, end, CHUNK)
                scan -= max(len(chunk), 1)
                wanted = [one for one in chunk if _wants(subscriber, only, one)]
                room = limit - len(found)
                unsettled = await self._unsettled(subscriber.id, wanted[:room])
                found += [_seen(subscriber.id, one, 0, None) for one in unsettled]
                read_to = chunk[-1].place if len(chunk) == CHUNK else end
                start = wanted[room - 1].place if len(wanted) > room else read_to
        return found, None

    async def _unsettled(self, subscriber_id: str, entries: Sequence[Entry]) -> list[Entry]:
        deliveries = [(subscriber_id, one.place) for one in entries]
        states = await self._ledger.states(deliveries)
        lately = await self._ledger.settled_lately(deliveries)
        return [
            one
            for one, state in zip(entries, states, strict=True)
            if state.waiting_attempt_no is None
            and state.dead_at_ms is None
            and (subscriber_id, str(one.place)) not in lately
        ]


def _wants(subscriber: Subscriber, only: Conditions, entry: Entry) -> bool:
    return only.admit_event(entry.event_type, entry.place) and matches(subscriber, entry.event_type, entry.payload)


def _seen(subscriber_id: str, entry: Entry, made: int, due_ms: int | None) -> Seen:
    queued, behind = due_ms is None, due_ms is not None and due_ms >= BEHIND_MS
    what = entry.event_id, entry.event_type
    return Seen(subscriber_id, entry.place, *what, "pending", made, due_at(due_ms), queued=queued, behind=behind)
