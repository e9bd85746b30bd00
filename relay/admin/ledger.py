"""What became of deliveries, put together from the four places that know: cursors, retries, dead letters, attempts.

A delivery has no record of its own (that is what makes a healthy one cost nothing), so its status is derived here.
Invariants: what the store settles in one step is never seen half (states are read before attempts), and every walk is
bounded, so that no question costs more than a few thousand groups of attempts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from relay.admin.attempt_walk import AttemptWalk, Budget, WalkKey
from relay.core.log import Attempt, Entry, Place
from relay.core.matching import matches
from relay.core.retry import Verdict
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.deliveries import DeliveryState
from relay.store.keys import shard_of

DeliveryStatus = Literal["pending", "delivered", "dead", "cancelled"]

MAX_ATTEMPTS: Final = 51
"""The longest schedule that can be set, and the first attempt."""
_FIRST_CHUNK: Final = 8
"""Most attempts follow their event at once; a longer search reads more and more at a time."""
_CHUNK: Final = 200
_RECENT_GROUPS: Final = 100
_DEATH_GROUPS: Final = 50
_SKEW_MS: Final = 60_000
"""How far a replica's clock, which announces the next attempt, may lie from the store's, which dates the groups."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A delivery as it stands."""

    subscriber_id: str
    event_id: str
    event_type: str
    status: DeliveryStatus
    attempts: int | None
    """Attempts made so far; None where their record has expired."""
    next_ms: int | None = None


@dataclass(frozen=True, slots=True)
class History:
    """The attempts of one delivery, oldest first."""

    attempts: Sequence[Attempt]
    complete: bool
    """False: the search was given up before the end of the record."""

    @property
    def last(self) -> Attempt | None:
        """The latest attempt found."""
        return self.attempts[-1] if self.attempts else None


def judge(state: DeliveryState, place: Place, history: History, *, wanted: bool) -> DeliveryStatus | None:
    """Status of the delivery of the event at `place`; None: there is no such delivery.

    `wanted` says whether the event matches its subscriber now.
    """
    last, waits = history.last, state.waiting_attempt_no
    if last is not None and last.verdict != Verdict.RETRY and (waits is None or waits <= last.attempt_no):
        return "delivered" if last.verdict == Verdict.DELIVERED else "dead"
    if waits is not None:
        return "pending"
    if state.dead_at_ms is not None:
        return "dead"
    if place > state.cursor:
        return "pending" if wanted or last is not None else None
    if not history.complete:
        return "delivered" if wanted else None  # settled, not waiting and not dead
    return None if last is None else "cancelled"


class Ledger:
    """Reads; it never writes."""

    def __init__(self, store: Store, max_attempts: int) -> None:
        self._deliveries = store.deliveries
        self._log = store.log
        self._max_attempts = max(max_attempts, MAX_ATTEMPTS)

    async def states(self, deliveries: Sequence[tuple[str, Place]]) -> list[DeliveryState]:
        """Where each of them stands."""
        return await self._deliveries.states(deliveries, self._max_attempts) if deliveries else []

    async def look_up(
        self, subscriber_id: str, entry: Entry, subscriber: Subscriber | None, budget: Budget
    ) -> tuple[Seen, History] | None:
        """One delivery with its attempts; `subscriber` is None if it was deleted."""
        wanted = subscriber is not None and matches(subscriber, entry.event_type, entry.payload)
        for _ in range(2):  # what looks cancelled may have been settled between the two reads
            (state,) = await self.states([(subscriber_id, entry.place)])
            history = await self.history(subscriber_id, entry.place, budget)
            status = judge(state, entry.place, history, wanted=wanted)
            if status != "cancelled":
                break
        if status is None or (subscriber is None and status == "pending"):
            return None
        made = history.last.attempt_no if history.last else 0
        due = state.waiting_until_ms if status == "pending" and (state.waiting_attempt_no or 0) > made else None
        return Seen(subscriber_id, entry.event_id, entry.event_type, status, made, due), history

    async def history(self, subscriber_id: str, place: Place, budget: Budget) -> History:
        """The attempts of one delivery, found from its event on and from each announced time to the next."""
        shard, start, found = shard_of(subscriber_id), f"{place.ms}-0", list[Attempt]()
        count, text = _FIRST_CHUNK, str(place)
        while budget.groups > 0:
            (groups,) = await self._deliveries.read_attempts([(shard, start)], count, newest_first=False)
            budget.groups -= max(len(groups), 1)
            known = len(found)
            for _, group in groups:
                found += [one for one in group if one.place == text and one.subscriber_id == subscriber_id]
            if len(groups) < count or (found and found[-1].verdict != Verdict.RETRY):
                return History(found, complete=True)
            start = _onwards(groups[-1][0], found[-1] if found else None)
            count = _FIRST_CHUNK if len(found) > known else min(count * 2, _CHUNK)
        return History(found, complete=False)

    def walk(self, shards: Sequence[int], before: WalkKey | None, budget: Budget) -> AttemptWalk:
        """Attempts of these shards, newest first, until the record or the budget ends."""
        return AttemptWalk(self._deliveries, shards, before, budget)

    async def attempted_lately(self, deliveries: Sequence[tuple[str, Place]]) -> set[tuple[str, str]]:
        """Subscriber and place of what was attempted within the last few seconds of each shard concerned.

        The cursor does not show it: it waits for the oldest attempt under way.
        """
        shards = sorted({shard_of(subscriber_id) for subscriber_id, _ in deliveries})
        if not shards:
            return set()
        starts = [(shard, "+") for shard in shards]
        replies = await self._deliveries.read_attempts(starts, _RECENT_GROUPS, newest_first=True)
        return {(one.subscriber_id, one.place) for groups in replies for _, group in groups for one in group}

    async def last_attempts(self, deaths: Sequence[tuple[int, str, Place]]) -> list[int | None]:
        """For each dead letter the number of its last attempt: it was committed together with the dead letter."""
        if not deaths:
            return []
        starts = [(shard_of(subscriber_id), f"{max(at - 1, 0)}-0") for at, subscriber_id, _ in deaths]
        replies = await self._deliveries.read_attempts(starts, _DEATH_GROUPS, newest_first=False)
        found: list[int | None] = []
        for (_, subscriber_id, place), groups in zip(deaths, replies, strict=True):
            wanted = (subscriber_id, str(place))
            numbers = (
                one.attempt_no for _, group in groups for one in group if (one.subscriber_id, one.place) == wanted
            )
            found.append(max(numbers, default=None))
        return found


def _onwards(place: Place, last: Attempt | None) -> str:
    """From which group on the next attempt may stand."""
    expected_ms = (last.next_ms or 0) - _SKEW_MS if last else 0
    return f"{expected_ms}-0" if expected_ms > place.ms else f"({place}"
