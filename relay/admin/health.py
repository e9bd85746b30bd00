"""GET /v1/subscribers/{id}/health: how a subscriber is doing right now.

Every part is bounded, so that a page may ask for many of them: a backlog is counted up to a limit and says so, and the
attempts are told by the subscriber's pulse, whatever others are sent meanwhile.
"""

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web
from pydantic import ConfigDict

from relay.admin.attempt_schema import AttemptOut, moment, shown_attempt
from relay.admin.examples import HEALTH
from relay.admin.fields import Described, Moment, example
from relay.admin.ledger import Ledger
from relay.admin.pages import json_response
from relay.admin.routes import Route
from relay.admin.subscriber_shown import StateOut, shown_state
from relay.admin.subscribers import find_subscriber
from relay.clock import Clock
from relay.core.log import Attempt, Place
from relay.core.matching import matches
from relay.core.retry import Verdict
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.keys import shard_of

MAX_BACKLOG: Final = 1000
_CHUNK: Final = 250
_SCAN: Final = 2000
_GROUPS: Final = 50


class BacklogOut(Described):
    """Deliveries that are pending."""

    count: int
    complete: bool
    """False: there are more; the count was given up."""
    oldest_at: Moment | None
    """When the oldest event that was counted entered the log."""


class RecentOut(Described):
    """Attempts within the latest ten minutes in which it had any."""

    since: Moment | None
    """When the first of these minutes began; null: there was never an attempt."""
    attempts: int
    delivered: int


class HealthOut(Described):
    """How a subscriber is doing."""

    model_config = ConfigDict(json_schema_extra=example(HEALTH))

    subscriber_id: str
    state: StateOut
    backlog: BacklogOut
    dead_letters: int
    recent: RecentOut
    last_success_at: Moment | None
    """Null: never."""
    last_failure_at: Moment | None
    """Null: never."""
    last_failure: AttemptOut | None
    """That attempt; null: there is none, or its record has expired."""


class SubscriberHealth:
    """The route /v1/subscribers/{id}/health."""

    def __init__(self, store: Store, max_attempts: int, clock: Clock) -> None:
        self._store = store
        self._ledger = Ledger(store, max_attempts)
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        summary = "Show how a subscriber is doing: backlog, dead letters, latest attempts"
        return (Route("GET", "/v1/subscribers/{id}/health", self._get, summary, {200: HealthOut}),)

    async def _get(self, request: web.Request) -> web.Response:
        subscriber = await find_subscriber(self._store.registry, request)
        pulse = (await self._store.pulses.of([subscriber.id]))[subscriber.id]
        failed = await self._last_failure(subscriber.id, pulse.last_failure_ms)
        body = {
            "subscriber_id": subscriber.id,
            "state": shown_state(subscriber, self._clock.now(), pulse),
            "backlog": await self._backlog(subscriber),
            "dead_letters": await self._store.deliveries.count_dead(subscriber.id),
            "recent": {
                "since": moment(pulse.recent[0].at_ms) if pulse.recent else None,
                "attempts": sum(one.attempts for one in pulse.recent),
                "delivered": sum(one.delivered for one in pulse.recent),
            },
            "last_success_at": moment(pulse.last_success_ms),
            "last_failure_at": moment(pulse.last_failure_ms),
            "last_failure": shown_attempt(failed) if failed else None,
        }
        return json_response(body)

    async def _last_failure(self, subscriber_id: str, at_ms: int | None) -> Attempt | None:
        """The attempt whose failure was noted then: it was committed a moment later, unless the store was away."""
        if at_ms is None:
            return None
        starts = [(shard_of(subscriber_id), f"{max(at_ms - 1, 0)}-0")]
        (groups,) = await self._store.deliveries.read_attempts(starts, _GROUPS, newest_first=False)
        for _, group in groups:
            failed = [one for one in group if one.subscriber_id == subscriber_id and one.verdict != Verdict.DELIVERED]
            if failed:
                return failed[-1]
        return None

    async def _backlog(self, subscriber: Subscriber) -> dict[str, Any]:
        """What waits for its next attempt, and what stands in the log after its cursor and was not settled."""
        waiting, all_waiting = await self._waiting(subscriber.id)
        queued, all_queued = await self._queued(subscriber)
        places = sorted(waiting | queued)
        return {
            "count": min(len(places), MAX_BACKLOG),
            "complete": all_waiting and all_queued and len(places) <= MAX_BACKLOG,
            "oldest_at": moment(places[0].ms) if places else None,
        }

    async def _waiting(self, subscriber_id: str) -> tuple[set[Place], bool]:
        """Events whose retry waits, and whether that is all of them."""
        shard, after = shard_of(subscriber_id), (0, "")
        found: set[Place] = set()
        for _ in range(_SCAN // _CHUNK):
            batch = await self._store.deliveries.waiting_after([shard], after, _CHUNK)
            found |= {one.place for _, one in batch if one.subscriber_id == subscriber_id}
            if len(batch) < _CHUNK:
                return found, True
            after = (batch[-1][0], str(batch[-1][1]))
        return found, False

    async def _queued(self, subscriber: Subscriber) -> tuple[set[Place], bool]:
        """Events after its cursor that are for it and not settled yet, and whether that is all of them."""
        ((state,), end) = await self._ledger.states([(subscriber.id, Place(0, 0))]), await self._store.log.end()
        start = state.cursor
        found: set[Place] = set()
        for _ in range(_SCAN // _CHUNK):
            chunk = await self._store.log.after(start, end, _CHUNK) if start < end else []
            mine = [one.place for one in chunk if matches(subscriber, one.event_type, one.payload)]
            settled = await self._ledger.settled_lately([(subscriber.id, place) for place in mine])
            found |= {place for place in mine if (subscriber.id, str(place)) not in settled}
            if len(chunk) < _CHUNK:
                return found, True
            start = chunk[-1].place
            if len(found) > MAX_BACKLOG:
                break
        return found, False
