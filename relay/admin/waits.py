"""Why a pending delivery has not gone out yet, as far as the store knows.

The breaker and the rate of a subscriber live in the memory of the replica that sends to it; here they are concluded
from what is on record: its latest attempts. Nothing is claimed that the record does not say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.admin.attempt_schema import moment
from relay.admin.delivery_schema import WAITS
from relay.admin.explain_schema import WaitReason
from relay.admin.ledger import Found
from relay.core.breaker import OPEN_AFTER, speaks_against
from relay.core.log import Attempt, Entry
from relay.core.matching import matches
from relay.core.outcome import Outcome, Reply
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.keys import shard_of
from relay.store.leases import shard_resource

LOOK_BACK: Final = 100
"""Groups of attempts of a shard that are looked at for a subscriber's latest."""
AHEAD: Final = 500
"""Events that are looked at for those that stand before a queued one."""
_ANNOUNCED_MS: Final = 1000
"""An attempt that is due so much later than was announced is not waited for: it is under way."""


@dataclass(frozen=True, slots=True)
class _Shard:
    """What is known of who sends."""

    served: bool
    latest: Sequence[Attempt]
    """Newest first."""


class Waits:
    """Explains pending deliveries of one page; what they have in common is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._shards: dict[int, _Shard] = {}
        self._now_ms: int | None = None

    async def explain(self, subscriber: Subscriber, entry: Entry, found: Found) -> list[dict[str, Any]]:
        """Everything that a pending delivery waits for."""
        if found.seen.status != "pending":
            return []
        if not subscriber.enabled:
            return [_wait("disabled", WAITS)]
        now_ms, shard = await self._known(shard_of(subscriber.id))
        waits = [] if shard.served else [_wait("no_replica", "no replica that delivers holds its shard just now")]
        failures = _failures(subscriber.id, shard.latest)
        if failures >= OPEN_AFTER:
            detail = f"the latest {failures} attempts to this subscriber failed: one at a time tries it out"
            waits.append(_wait("resting", detail))
        if found.state.waiting_attempt_no is not None:
            return [*waits, _next_attempt(found, now_ms)]
        return [*waits, _wait("queued", await self._before(subscriber, entry, found))]

    async def _known(self, shard: int) -> tuple[int, _Shard]:
        if self._now_ms is None:
            self._now_ms = await self._store.deliveries.now_ms()
        if shard not in self._shards:
            resource = shard_resource(shard)
            served = await self._store.leases.served([resource], self._now_ms)
            (groups,) = await self._store.deliveries.read_attempts([(shard, "+")], LOOK_BACK, newest_first=True)
            latest = [one for _, group in groups for one in reversed(group)]
            self._shards[shard] = _Shard(resource in served, latest)
        return self._now_ms, self._shards[shard]

    async def _before(self, subscriber: Subscriber, entry: Entry, found: Found) -> str:
        """How many events for the subscriber stand before this one."""
        chunk = await self._store.log.after(found.state.cursor, entry.place, AHEAD)
        before = [one for one in chunk if one.place < entry.place]
        count = sum(matches(subscriber, one.event_type, one.payload) for one in before)
        more = " or more" if len(chunk) == AHEAD and chunk[-1].place < entry.place else ""
        return f"{count}{more} events for this subscriber stand before it that are not settled, or under way"


def _next_attempt(found: Found, now_ms: int) -> dict[str, Any]:
    number, due_ms = found.state.waiting_attempt_no, found.state.waiting_until_ms or 0
    last = found.history.last
    if due_ms <= now_ms:
        return _wait("due", f"attempt {number} is due and waits for its turn", due_ms)
    if last is not None and last.next_ms is not None and due_ms <= last.next_ms + _ANNOUNCED_MS:
        return _wait("retry", f"attempt {last.attempt_no} failed: attempt {number} is due then", due_ms)
    detail = f"attempt {number} is under way, and is made again then if its replica has died meanwhile"
    return _wait("under_way", detail, due_ms)


def _failures(subscriber_id: str, latest: Sequence[Attempt]) -> int:
    """How many attempts in a row, up to now, spoke against the subscriber."""
    count = 0
    for one in latest:
        if one.subscriber_id != subscriber_id:
            continue
        try:
            against = speaks_against(Reply(Outcome(one.outcome), one.status))
        except ValueError:  # another version's outcome
            break
        if against is False:
            break
        count += bool(against)
    return count


def _wait(reason: WaitReason, detail: str, until_ms: int | None = None) -> dict[str, Any]:
    return {"reason": reason, "detail": detail, "until": moment(until_ms)}
