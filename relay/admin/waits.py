"""Why a pending delivery has not gone out yet, as far as the store knows.

The replica that sends to a subscriber keeps in the store how that is doing (its pulse), so whether it rests, and until
when, is known here whatever others are sent. Nothing is claimed that the record does not say.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Self

from relay.admin.attempt_schema import moment
from relay.admin.delivery_schema import WAITS, WaitReason
from relay.admin.ledger import Found, Seen
from relay.core.log import Entry
from relay.core.matching import matches
from relay.core.pulse import NO_PULSE, Pulse
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.keys import shard_of
from relay.store.leases import shard_resource

AHEAD: Final = 500
"""Events that are looked at for those that stand before a queued one."""
_ANNOUNCED_MS: Final = 1000
"""An attempt that is due so much later than was announced is not waited for: it is under way."""
_RESUME: Final = "once the receiver is mended, POST …/test or …/enable of the subscriber ends that at once"


class Waits:
    """Explains pending deliveries of these subscribers; what they have in common is read once."""

    def __init__(
        self, store: Store, subscribers: Mapping[str, Subscriber], pulses: Mapping[str, Pulse], now_ms: int
    ) -> None:
        self._store = store
        self._subscribers = subscribers
        self._pulses = pulses
        self._now_ms = now_ms
        self._served: dict[int, bool] = {}

    @classmethod
    async def of(cls, store: Store, subscribers: Iterable[Subscriber]) -> Self:
        """Read what is to be known of these subscribers."""
        known = {one.id: one for one in subscribers}
        return cls(store, known, await store.pulses.of(list(known)), await store.deliveries.now_ms())

    def briefly(self, seen: Seen) -> WaitReason | None:
        """The one thing that a delivery waits for; None: it is not pending."""
        if seen.status != "pending":
            return None
        subscriber = self._subscribers.get(seen.subscriber_id)
        if subscriber is not None and not subscriber.enabled:
            return "disabled"
        if self._rests(seen.subscriber_id):
            return "resting"
        if seen.queued or seen.behind:
            return "queued" if seen.queued else "entity"
        if seen.next_ms is None or seen.next_ms <= self._now_ms:
            return "due"
        return "retry" if seen.attempts else "under_way"

    def timed(self, seen: Seen) -> Seen:
        """With the time of its next attempt as it is while its subscriber rests."""
        if seen.status != "pending" or seen.queued or seen.behind or not self._rests(seen.subscriber_id):
            return seen
        at_ms = max(seen.next_ms or 0, self._pulses[seen.subscriber_id].resting_until_ms or 0)
        return replace(seen, next_ms=at_ms if at_ms > self._now_ms else None)

    def note(self, subscriber: Subscriber) -> str | None:
        """Why nothing goes to a subscriber just now."""
        if not subscriber.enabled:
            return WAITS
        return self._resting(subscriber.id)["detail"] if self._rests(subscriber.id) else None

    async def explain(self, subscriber: Subscriber, entry: Entry, found: Found) -> list[dict[str, Any]]:
        """Everything that a pending delivery waits for."""
        if found.seen.status != "pending":
            return []
        if not subscriber.enabled:
            return [_wait("disabled", WAITS)]
        waits = [] if await self._is_served(shard_of(subscriber.id)) else [_NOT_SERVED]
        if rests := self._rests(subscriber.id):
            waits.append(self._resting(subscriber.id))
        if found.state.waiting_attempt_no is None:
            return [*waits, _wait("queued", await self._before(subscriber, entry, found))]
        next_attempt = self._next_attempt(found)
        return waits if rests and next_attempt["reason"] == "due" else [*waits, next_attempt]

    def _rests(self, subscriber_id: str) -> bool:
        return self._pulses.get(subscriber_id, NO_PULSE).resting_until_ms is not None

    def _resting(self, subscriber_id: str) -> dict[str, Any]:
        pulse = self._pulses[subscriber_id]
        until_ms = pulse.resting_until_ms or 0
        why = f"the latest {pulse.failures} attempts to it failed" if pulse.failures else "it has asked for a pause"
        how = "one delivery at a time tries it out from then on" if until_ms > self._now_ms else "it is being tried out"
        detail = f"its subscriber rests, because {why}: {how}; {_RESUME}"
        return _wait("resting", detail, until_ms if until_ms > self._now_ms else None)

    async def _is_served(self, shard: int) -> bool:
        if shard not in self._served:
            resource = shard_resource(shard)
            self._served[shard] = resource in await self._store.leases.served([resource], self._now_ms)
        return self._served[shard]

    async def _before(self, subscriber: Subscriber, entry: Entry, found: Found) -> str:
        """How many events for the subscriber stand before this one."""
        chunk: Sequence[Entry] = await self._store.log.after(found.state.cursor, entry.place, AHEAD)
        before = [one for one in chunk if one.place < entry.place]
        count = sum(matches(subscriber, one.event_type, one.payload) for one in before)
        more = " or more" if len(chunk) == AHEAD and chunk[-1].place < entry.place else ""
        if not count:
            return "it is the next of what this subscriber is sent"
        return f"{count}{more} events for this subscriber stand before it that are not settled, or under way"

    def _next_attempt(self, found: Found) -> dict[str, Any]:
        number, due_ms = found.state.waiting_attempt_no, found.state.waiting_until_ms
        if found.state.behind:
            return _wait("entity", "an earlier event of its entity is not settled yet, and goes before it")
        if due_ms is None or due_ms <= self._now_ms:
            return _wait("due", f"attempt {number} is due and waits for its turn", due_ms)
        last = found.history.last
        if last is not None and last.next_ms is not None and due_ms <= last.next_ms + _ANNOUNCED_MS:
            return _wait("retry", f"attempt {last.attempt_no} failed: attempt {number} is due then", due_ms)
        detail = f"attempt {number} is under way, and is made again then if its replica has died meanwhile"
        return _wait("under_way", detail, due_ms)


def _wait(reason: WaitReason, detail: str, until_ms: int | None = None) -> dict[str, Any]:
    return {"reason": reason, "detail": detail, "until": moment(until_ms)}


_NOT_SERVED: Final = _wait("no_replica", "no replica that delivers holds its shard just now")
