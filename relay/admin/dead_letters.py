"""Dead letters, the latest first: what each was, and whose failure it is.

A dead letter whose event was trimmed is told of all the same, by its place: it must be seen, though it cannot be sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.admin.ledger import Cause, Ledger, Seen, cause_of
from relay.core.log import Attempt, Entry, Place
from relay.core.matching import type_matches
from relay.store import Store
from relay.store.keys import shard_of

LetterKey = tuple[int, str, str]
"""Unix ms of death, subscriber, place: the order of dead letters."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Which deliveries are meant, beyond whose and in which status."""

    event_types: Sequence[str] = ()
    """Patterns, of which one must cover the type; none: any type."""
    cause: Cause | None = None
    since_ms: int = 0
    """When the event entered the log, in Unix ms: from here on, …"""
    until_ms: int | None = None
    """… and before this."""

    def admit(self, seen: Seen) -> bool:
        """Whether a delivery is meant."""
        return self.admit_event(seen.event_type, seen.place) and self.cause in (None, seen.cause)

    def admit_event(self, event_type: str | None, place: Place) -> bool:
        """Whether an event's deliveries can be meant; one that was trimmed has no type."""
        if place.ms < self.since_ms or (self.until_ms is not None and place.ms >= self.until_ms):
            return False
        if not self.event_types:
            return True
        return event_type is not None and any(type_matches(pattern, event_type) for pattern in self.event_types)


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter."""

    key: LetterKey
    seen: Seen
    kept: bool
    """Whether its event is still in the log."""


class DeadLetters:
    """Reads them in chunks."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    async def read(
        self, subscriber_ids: Sequence[str], before: LetterKey | None, count: int, *, attempts: bool = True
    ) -> list[Letter]:
        """Up to `count` of them, from `before` on; without `attempts` their number and the cause are not looked up."""
        deaths = await self._store.deliveries.dead_before(subscriber_ids, before, count) if subscriber_ids else []
        if not deaths:
            return []
        entries = await self._store.log.at([place for _, _, place in deaths])
        last = await self._ledger.last_attempts(deaths) if attempts else [None] * len(deaths)
        alone = {
            shard_of(subscriber_id)
            for (_, subscriber_id, _), entry, attempt in zip(deaths, entries, last, strict=True)
            if attempts and entry is None and attempt is None
        }
        forgotten = {shard: await self._store.deliveries.forgotten_ms(shard) for shard in sorted(alone)}
        return [
            Letter(
                (at, subscriber_id, str(place)),
                _seen(
                    subscriber_id,
                    place,
                    entry,
                    attempt,
                    died_ms=at,
                    unsent=at >= forgotten.get(shard_of(subscriber_id), at + 1),
                ),
                entry is not None,
            )
            for (at, subscriber_id, place), entry, attempt in zip(deaths, entries, last, strict=True)
        ]


def _seen(
    subscriber_id: str, place: Place, entry: Entry | None, last: Attempt | None, *, died_ms: int, unsent: bool
) -> Seen:
    """`unsent` says that its death is on record, and no attempt with it: its event was trimmed while it waited."""
    told = entry or last
    cause: Cause | None = "relay" if entry is None and last is None and unsent else cause_of(last)
    event_id, event_type = (told.event_id, told.event_type) if told else (None, None)
    number = last.attempt_no if last else None
    return Seen(subscriber_id, place, event_id, event_type, "dead", number, cause=cause, died_ms=died_ms)
