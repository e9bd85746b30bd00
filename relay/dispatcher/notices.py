"""Telling of subscribers that fail: notice first, then disabled, and well again when they are.

What the workers see is judged in memory; only a change of status is written, together with its event. For how long a
subscriber has failed is taken from its pulse, which is stored: no restart begins that anew.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from relay.clock import Clock
from relay.core.breaker import speaks_against
from relay.core.events import rfc3339
from relay.core.notice import change_state
from relay.core.outcome import Reply
from relay.core.retry import GONE
from relay.core.subscriber import State, Subscriber
from relay.dispatcher.lane import Lane
from relay.store.deliveries import DeliveryStore
from relay.store.registry import ChangedMeanwhileError, RegistryStore

log = structlog.get_logger()

Judgement = Callable[[Subscriber], State | None]


class Notices:
    """Keeps the states of subscribers true to how their deliveries go."""

    def __init__(
        self,
        registry: RegistryStore,
        deliveries: DeliveryStore,
        clock: Clock,
        *,
        notice_after_s: float,
        disable_after_s: float,
    ) -> None:
        self._registry = registry
        self._deliveries = deliveries
        self._clock = clock
        self._notice_after_ms = notice_after_s * 1000
        self._disable_after_ms = disable_after_s * 1000
        self._waiting: dict[str, Judgement] = {}
        self._news = asyncio.Event()

    def observe(self, lane: Lane, reply: Reply, now_ms: int) -> None:
        """Look at what an attempt came to; costs nothing unless the status is to change."""
        state = lane.receiver.subscriber.state
        against = speaks_against(reply)
        if reply.status == GONE:
            self._waiting.pop(lane.id, None)  # whatever else was to be told: nothing more comes that could remind us
            self._tell(lane.id, lambda _: State(status="disabled", reason="it answered 410 Gone"))
        elif against is False:
            if state.status == "failing":
                self._tell(lane.id, lambda one: State() if one.state.status == "failing" else None)
        elif against:
            since_ms = lane.pulse.failing_since_ms or now_ms
            if told := _since(state):  # by a version that kept no pulse
                since_ms = min(since_ms, int(told.timestamp() * 1000))
            since, failed_ms = datetime.fromtimestamp(since_ms / 1000, UTC), now_ms - since_ms
            if state.status == "ok" and failed_ms >= self._notice_after_ms:
                self._tell(lane.id, lambda one: _failing(one, since, reply))
            elif state.status == "failing" and failed_ms >= self._disable_after_ms:
                self._tell(lane.id, lambda one: _disabled(one, since))

    async def turn(self) -> None:
        """Write the next changes of status; what cannot be written stays to be written."""
        await self._news.wait()
        while self._waiting:
            subscriber_id, judge = next(iter(self._waiting.items()))
            await self._write(subscriber_id, judge)
            if self._waiting.get(subscriber_id) is judge:
                del self._waiting[subscriber_id]
        self._news.clear()

    def _tell(self, subscriber_id: str, judge: Judgement) -> None:
        if subscriber_id not in self._waiting:
            self._waiting[subscriber_id] = judge
        self._news.set()

    async def _write(self, subscriber_id: str, judge: Judgement) -> None:
        """Change the stored state, whatever else is being changed about the subscriber at the same time."""
        while (subscriber := await self._registry.get(subscriber_id)) is not None:
            state = judge(subscriber)
            if state is None or not subscriber.enabled:
                return
            if state.status == "disabled" and state.failing_since and not await self._gave_up(subscriber):
                return
            enabled = state.status != "disabled"
            changed, event = change_state(subscriber, state, self._clock.now(), enabled=enabled)
            try:
                await self._registry.replace(subscriber, changed, event)
            except ChangedMeanwhileError:
                continue
            log.warning("subscriber.state", subscriber=subscriber_id, status=state.status, reason=state.reason)
            return

    async def _gave_up(self, subscriber: Subscriber) -> bool:
        """Whether a delivery has gone through its whole schedule in vain since the failing began."""
        since = _since(subscriber.state)
        latest = await self._deliveries.dead(subscriber.id, 0, 1)
        return bool(latest and since and latest[0][1] >= since.timestamp() * 1000)


def _failing(subscriber: Subscriber, since: datetime, reply: Reply) -> State | None:
    if subscriber.state.status != "ok":
        return None
    reason = f"status {reply.status}" if reply.status else str(reply.outcome)
    return State(status="failing", reason=reason, failing_since=rfc3339(since))


def _disabled(subscriber: Subscriber, since: datetime) -> State | None:
    if subscriber.state.status != "failing":
        return None
    return State(status="disabled", reason="no success for too long", failing_since=rfc3339(since))


def _since(state: State) -> datetime | None:
    return datetime.fromisoformat(state.failing_since) if state.failing_since else None
