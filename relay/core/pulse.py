"""How a subscriber has been doing lately: what the replica that sends to it knows, small enough to be kept for each.

It is written together with what the attempts came to, by the one replica that sends to the subscriber, so that it is
never half known, outlives restarts, and does not depend on how much others send.
"""

import msgspec

from relay.core.breaker import speaks_against
from relay.core.outcome import Reply

MINUTES_KEPT = 10
_MINUTE_MS = 60_000


class Minute(msgspec.Struct, frozen=True, array_like=True):
    """Attempts that ended within one minute."""

    at_ms: int
    """Its beginning."""
    attempts: int
    delivered: int


class Pulse(msgspec.Struct, frozen=True, array_like=True):
    """Times are Unix milliseconds of the store's clock."""

    last_success_ms: int | None = None
    failing_since_ms: int | None = None
    """The first failure since the last success; None: the latest attempt that says anything went well."""
    failures: int = 0
    """In a row, up to now."""
    reason: str | None = None
    """Of the latest of these."""
    last_failure_ms: int | None = None
    """Of any attempt, one that speaks against its event only included."""
    resting_until_ms: int | None = None
    """Nothing is sent before, and then one attempt at a time."""
    recent: tuple[Minute, ...] = ()
    """The latest minutes in which there were attempts, oldest first."""

    def noted(self, reply: Reply, now_ms: int, *, delivered: bool) -> "Pulse":
        """After one more attempt."""
        counted = _counted(self.recent, now_ms - now_ms % _MINUTE_MS, delivered=delivered)
        against = speaks_against(reply)
        if against is False:
            return Pulse(last_success_ms=now_ms, last_failure_ms=self.last_failure_ms, recent=counted)
        if against is None:
            return msgspec.structs.replace(self, last_failure_ms=now_ms, recent=counted)
        return Pulse(
            last_success_ms=self.last_success_ms,
            failing_since_ms=now_ms if self.failing_since_ms is None else self.failing_since_ms,
            failures=self.failures + 1,
            reason=f"status {reply.status}" if reply.status else str(reply.outcome),
            last_failure_ms=now_ms,
            resting_until_ms=self.resting_until_ms,
            recent=counted,
        )

    def resting(self, until_ms: int | None) -> "Pulse":
        """With another end of its rest; None: it does not rest."""
        same = self.resting_until_ms == until_ms
        return self if same else msgspec.structs.replace(self, resting_until_ms=until_ms)

    def anew(self) -> "Pulse":
        """As after it was enabled: what was before is not held against it."""
        return msgspec.structs.replace(self, failing_since_ms=None, failures=0, reason=None, resting_until_ms=None)


NO_PULSE = Pulse()
"""Of one that was never attempted."""


def _counted(recent: tuple[Minute, ...], at_ms: int, *, delivered: bool) -> tuple[Minute, ...]:
    if recent and recent[-1].at_ms == at_ms:
        last = recent[-1]
        return (*recent[:-1], Minute(at_ms, last.attempts + 1, last.delivered + delivered))
    return (*recent[1 - MINUTES_KEPT :], Minute(at_ms, 1, int(delivered)))
