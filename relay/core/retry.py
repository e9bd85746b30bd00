"""What follows from an outcome: done, again later, or given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from relay.core.breaker import speaks_against
from relay.core.outcome import Outcome, Reply

DEFAULT_SCHEDULE_S: tuple[float, ...] = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Delays after attempt 1, 2, …: the Standard Webhooks specification's example."""
JITTER = 0.2
MAX_RETRY_AFTER_S = 86400.0
MAX_ASKED_S = 3600.0
"""Longest pause between polls that an upstream's `Retry-After` can bring about."""
GONE = 410
_OWN_ATTEMPTS = 51
"""The longest schedule that a subscriber can have, and the first attempt."""


class Verdict(StrEnum):
    """What becomes of a delivery after an attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"
    HELD = "held"
    """A probe of an ailing subscriber failed: the delivery stays first in the queue, and its schedule has not begun."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict; for `RETRY`, in how many seconds."""

    verdict: Verdict
    delay_s: float = 0.0


def highest_attempt(max_attempts: int) -> int:
    """The greatest number that an attempt can have, where the relay's own schedule allows `max_attempts`."""
    return max(max_attempts, _OWN_ATTEMPTS)


def backoff_s(attempt_no: int, schedule_s: Sequence[float], jitter: float) -> float | None:
    """Seconds to wait after failed attempt `attempt_no` (1-based); None once the schedule is exhausted.

    `jitter` in [0, 1] lengthens the delay by up to 20 %, so subscribers that failed together do not
    return together and none is called early.
    """
    if attempt_no > len(schedule_s):
        return None
    return schedule_s[attempt_no - 1] * (1 + JITTER * jitter)


def decide(
    reply: Reply, attempt_no: int, schedule_s: Sequence[float], jitter: float, *, hold: bool = False
) -> Decision:
    """The policy. `Retry-After` can only lengthen the wait, and to a day at the most.

    With `hold` a failure changes nothing for the delivery, unless it is the delivery's own (then the queue goes on).
    410 holds it too: the subscriber is disabled, and gets it if it is enabled again.
    """
    if reply.outcome is Outcome.DELIVERED:
        return Decision(Verdict.DELIVERED)
    if reply.outcome is Outcome.TOO_LARGE:
        return Decision(Verdict.DEAD)  # it would be as large the next time
    if reply.status == GONE or (hold and speaks_against(reply)):
        return Decision(Verdict.HELD)
    delay = backoff_s(attempt_no, schedule_s, jitter)
    if delay is None:
        return Decision(Verdict.DEAD)
    asked = min(reply.retry_after_s or 0.0, MAX_RETRY_AFTER_S)
    return Decision(Verdict.RETRY, max(delay, asked))


def poll_backoff_s(failures: int, interval_s: float, jitter: float) -> float:
    """Seconds until the next poll after `failures` failed ones in a row.

    Doubles from the interval to five minutes (or the interval, if that is longer), lengthened by up to 20 %.
    """
    ceiling = max(300.0, interval_s)
    return min(ceiling, interval_s * 2.0 ** min(failures - 1, 16)) * (1 + JITTER * jitter)
