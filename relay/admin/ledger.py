"""What became of deliveries, put together from the four places that know: cursors, retries, dead letters, attempts.

A delivery has no record of its own (that is what makes a healthy one cost nothing), so its status is derived here.
Invariants: what the store settles in one step is never seen half (attempts are read between two equal readings of the
state), and every walk is bounded, so that no question costs more than a few thousand groups of attempts.

A redelivery begins a new *round*, with attempt 1: earlier attempts are history, and only those since say how it stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from relay.admin.attempt_walk import AttemptWalk, Budget, WalkKey
from relay.core.log import Attempt, Entry, Place
from relay.core.matching import matches
from relay.core.outcome import Outcome
from relay.core.retry import Verdict, highest_attempt
from relay.core.subscriber import Subscriber, moment_ms
from relay.store import Store
from relay.store.delivery_state import DeliveryState
from relay.store.keys import shard_of

DeliveryStatus = Literal["pending", "delivered", "dead", "cancelled"]
Cause = Literal["subscriber", "relay"]

_SKEW_MS: Final = 60_000
"""How far a replica's clock, which announces the next attempt, may lie from the store's, which dates the groups."""
_FIRST_CHUNK: Final = 8
"""Most attempts follow their event at once; a longer search reads more and more at a time."""
_CHUNK: Final = 200
_RECENT_GROUPS: Final = 100
_DEATH_GROUPS: Final = (4, 50)
"""The group of a death is nearly always the first after it; the second figure is for a store that was away."""
_LOOKS: Final = 3
_FINAL: Final = (Verdict.DELIVERED, Verdict.DEAD)
_OURS: Final = (Outcome.PROXY, Outcome.LOCAL, Outcome.TOO_LARGE)


@dataclass(frozen=True, slots=True)
class Seen:
    """A delivery as it stands."""

    subscriber_id: str
    place: Place
    event_id: str | None
    """None, as the type: the event was trimmed, and no attempt tells of it."""
    event_type: str | None
    status: DeliveryStatus
    attempts: int | None
    """Number of the latest attempt that counts; None where its record has expired. Probes that were held do not."""
    next_ms: int | None = None
    cause: Cause | None = None
    """Whose failure a dead letter is; None if its record has expired."""
    queued: bool = False
    """Pending: it stands in the log after the subscriber's cursor, and no attempt of it waits for its time."""
    behind: bool = False
    """Pending: it waits for an earlier event of its entity."""
    died_ms: int | None = None
    """When a dead letter was given up; None if its record has expired."""


@dataclass(frozen=True, slots=True)
class History:
    """The attempts of one delivery, oldest first."""

    attempts: Sequence[Attempt]
    """Those of the present round."""
    complete: bool
    """False: the search was given up before the end of the record, or the record has expired."""
    former: Sequence[Attempt] = ()
    """Those of the rounds before."""
    former_complete: bool = True

    @property
    def last(self) -> Attempt | None:
        """The latest attempt of the round."""
        return self.attempts[-1] if self.attempts else None


@dataclass(frozen=True, slots=True)
class Found:
    """One delivery, and what its status was derived from."""

    seen: Seen
    history: History
    state: DeliveryState


def judge(state: DeliveryState, place: Place, history: History, *, wanted: bool) -> DeliveryStatus | None:
    """Status of the delivery of the event at `place`; None: there is no such delivery.

    `wanted` says whether the event matches its subscriber now.
    """
    last = history.last
    if state.waiting_attempt_no is not None:
        return "pending"
    if last is not None and last.verdict in _FINAL:
        return "delivered" if last.verdict == Verdict.DELIVERED else "dead"
    if state.dead_at_ms is not None:
        return "dead"
    if place > state.cursor:
        return "pending" if wanted or last is not None else None
    if not history.complete:
        return "delivered" if wanted else None  # settled, not waiting and not dead
    return None if last is None and not history.former else "cancelled"


def cause_of(last: Attempt | None) -> Cause | None:
    """Whose failure it is that a delivery died with this attempt."""
    if last is None or last.verdict != Verdict.DEAD:
        return None
    return "relay" if last.outcome in _OURS else "subscriber"


def counted(last: Attempt | None) -> int:
    """How many attempts of the round count, by the last one: one that was held will be made again."""
    if last is None:
        return 0
    return last.attempt_no - (last.verdict == Verdict.HELD)


def may_have_had_it(subscriber: Subscriber, entry: Entry, state: DeliveryState) -> bool:
    """Whether a delivery may be found: one is on record, or the event matches, or did before the subscriber changed."""
    if state.waiting_attempt_no is not None or state.dead_at_ms is not None or state.asked_ms is not None:
        return True
    if entry.place.ms + _SKEW_MS < moment_ms(subscriber.created_at):
        return False
    changed = moment_ms(subscriber.updated_at) > max(entry.place.ms, moment_ms(subscriber.created_at))
    return changed or matches(subscriber, entry.event_type, entry.payload)


class Ledger:
    """Reads; it never writes."""

    def __init__(self, store: Store, max_attempts: int) -> None:
        self._deliveries = store.deliveries
        self._log = store.log
        self._max_attempts = highest_attempt(max_attempts)

    async def states(self, deliveries: Sequence[tuple[str, Place]]) -> list[DeliveryState]:
        """Where each of them stands."""
        return await self._deliveries.states(deliveries, self._max_attempts) if deliveries else []

    async def look_up(
        self, subscriber_id: str, entry: Entry, subscriber: Subscriber | None, budget: Budget
    ) -> Found | None:
        """One delivery with its attempts; `subscriber` is None if it was deleted."""
        wanted = subscriber is not None and matches(subscriber, entry.event_type, entry.payload)
        (state,) = await self.states([(subscriber_id, entry.place)])
        for _ in range(_LOOKS):
            history = await self.history(subscriber_id, entry.place, budget)
            before, (state,) = state, await self.states([(subscriber_id, entry.place)])
            if _same(before, state, entry.place):
                break
        passed = entry.place <= state.cursor and not history.attempts
        if wanted and passed and await self._forgotten(subscriber, entry.place):
            history = replace(history, complete=False)
        unasked = state.asked_ms is None and not history.attempts
        if (
            subscriber
            and unasked
            and entry.place <= state.cursor
            and entry.place.ms <= moment_ms(subscriber.created_at)
        ):
            wanted = False  # nothing was found, and nothing is to be concluded: it was registered later
        status = judge(state, entry.place, history, wanted=wanted)
        if status == "pending" and entry.erased:
            status = "cancelled"
        if status is None or (subscriber is None and status == "pending"):
            return None
        due = state.waiting_until_ms if status == "pending" else None
        cause = cause_of(history.last) if status == "dead" else None
        made = counted(history.last)
        queued = status == "pending" and state.waiting_attempt_no is None
        behind = status == "pending" and state.behind
        what = entry.event_id, entry.event_type
        died = state.dead_at_ms if status == "dead" else None
        seen = Seen(subscriber_id, entry.place, *what, status, made, due, cause, queued, behind, died)
        return Found(seen, history, state)

    async def _forgotten(self, subscriber: Subscriber | None, place: Place) -> bool:
        """Whether attempts may have been made whose record has expired."""
        if subscriber is None or place.ms < moment_ms(subscriber.created_at):
            return False
        return place.ms < await self._deliveries.forgotten_ms(shard_of(subscriber.id))

    async def history(self, subscriber_id: str, place: Place, budget: Budget) -> History:
        """The attempts of one delivery, found from its event on and from each announced time to the next."""
        asked = await self._deliveries.asked(subscriber_id, place, self._max_attempts)
        search = _Search(subscriber_id, str(place), asked)
        begun = asked.get(1)
        if begun is None:
            return History(*await self._search(search, place.ms, None, budget))
        present = await self._search(search, begun + 1, None, budget)
        return History(*present, *await self._search(search, place.ms, begun, budget))

    async def _search(
        self, search: "_Search", since_ms: int, until_ms: int | None, budget: Budget
    ) -> tuple[list[Attempt], bool]:
        """Attempts from a time on, up to another one or to the end of the round; whether all of the record was read."""
        shard, start, count = shard_of(search.subscriber_id), f"{since_ms}-0", _FIRST_CHUNK
        found: list[tuple[Place, Attempt]] = []
        while budget.groups > 0:
            (groups,) = await self._deliveries.read_attempts([(shard, start)], count, newest_first=False)
            budget.groups -= max(len(groups), 1)
            inside = [group for group in groups if until_ms is None or group[0].ms <= until_ms]
            new = [(at, one) for at, group in inside for one in group if search.takes(one)]
            found += new
            ended = until_ms is None and bool(found) and found[-1][1].verdict in _FINAL
            if ended or len(groups) < count or len(inside) < len(groups):
                return [one for _, one in found], True
            start = search.onwards(groups[-1][0], found[-1] if found else None)
            count = _FIRST_CHUNK if new else min(count * 2, _CHUNK)
        return [one for _, one in found], False

    def walk(self, shards: Sequence[int], before: WalkKey | None, budget: Budget) -> AttemptWalk:
        """Attempts of these shards, newest first, until the record or the budget ends."""
        return AttemptWalk(self._deliveries, shards, before, budget)

    async def settled_lately(self, deliveries: Sequence[tuple[str, Place]]) -> set[tuple[str, str]]:
        """Subscriber and place of what was settled within the last few seconds of each shard concerned.

        The cursor does not show it: it waits for the oldest attempt under way. A probe that was held settles nothing.
        """
        shards = sorted({shard_of(subscriber_id) for subscriber_id, _ in deliveries})
        if not shards:
            return set()
        starts = [(shard, "+") for shard in shards]
        replies = await self._deliveries.read_attempts(starts, _RECENT_GROUPS, newest_first=True)
        return {
            (one.subscriber_id, one.place)
            for groups in replies
            for _, group in groups
            for one in group
            if one.verdict != Verdict.HELD
        }

    async def last_attempts(self, deaths: Sequence[tuple[int, str, Place]]) -> list[Attempt | None]:
        """For each dead letter its last attempt, which was committed together with it; None: there is none."""
        found: dict[tuple[str, str, int], Attempt] = {}
        missing = [(subscriber_id, str(place), at) for at, subscriber_id, place in deaths]
        for count in _DEATH_GROUPS:
            starts = sorted({(shard_of(subscriber_id), max(at - 1, 0)) for subscriber_id, _, at in missing})
            if not starts:
                break
            places = [(shard, f"{ms}-0") for shard, ms in starts]
            replies = await self._deliveries.read_attempts(places, count, newest_first=False)
            dead = {
                (one.subscriber_id, one.place, start[1] + 1): one
                for start, groups in zip(starts, replies, strict=True)
                for _, group in groups
                for one in group
                if one.verdict == Verdict.DEAD
            }
            found.update({key: dead[key] for key in missing if key in dead})
            missing = [key for key in missing if key not in dead]
        return [found.get((subscriber_id, str(place), at)) for at, subscriber_id, place in deaths]


@dataclass(frozen=True, slots=True)
class _Search:
    """Whose attempts are looked for, and where the next may stand."""

    subscriber_id: str
    place: str
    asked: dict[int, int]
    """Attempt number → Unix ms at which it was asked for ahead of its time."""

    def takes(self, attempt: Attempt) -> bool:
        return attempt.place == self.place and attempt.subscriber_id == self.subscriber_id

    def onwards(self, read_to: Place, last: tuple[Place, Attempt] | None) -> str:
        """From which group on the next attempt may stand: about when it was announced, or asked for before."""
        if last is None or last[1].next_ms is None:
            return f"({read_to}"
        expected_ms = last[1].next_ms - _SKEW_MS
        asked_ms = self.asked.get(last[1].attempt_no + 1, 0)
        if asked_ms >= last[0].ms:
            expected_ms = min(expected_ms, asked_ms)
        return f"{expected_ms}-0" if expected_ms > read_to.ms else f"({read_to}"


def _same(one: DeliveryState, other: DeliveryState, place: Place) -> bool:
    """Whether nothing was settled between two readings, as far as the delivery of `place` goes."""
    return replace(one, cursor=other.cursor) == other and (place <= one.cursor) == (place <= other.cursor)
