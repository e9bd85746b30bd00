"""What is kept of how a subscriber has been doing."""

from relay.core.outcome import Outcome, Reply
from relay.core.pulse import MINUTES_KEPT, NO_PULSE, Minute, Pulse

GOOD, BAD, MISFIT = Reply(Outcome.DELIVERED, 204), Reply(Outcome.STATUS, 500), Reply(Outcome.STATUS, 422)
MINUTE_MS = 60_000


def after(*replies: Reply, pulse: Pulse = NO_PULSE, at_ms: int = 0) -> Pulse:
    """One attempt per second."""
    for number, reply in enumerate(replies):
        pulse = pulse.noted(reply, at_ms + 1000 * number, delivered=reply.outcome is Outcome.DELIVERED)
    return pulse


def test_failing_since_is_the_first_failure_since_the_last_success() -> None:
    """Later ones do not move it, and a success ends it; what speaks against the event only changes nothing about it."""
    pulse = after(GOOD, BAD, BAD, MISFIT)
    assert (pulse.last_success_ms, pulse.failing_since_ms, pulse.failures) == (0, 1000, 2)
    assert (pulse.reason, pulse.last_failure_ms) == ("status 500", 3000)
    well = after(GOOD, pulse=pulse, at_ms=4000)
    assert (well.failing_since_ms, well.failures, well.reason, well.last_success_ms) == (None, 0, None, 4000)
    assert well.last_failure_ms == 3000


def test_the_latest_minutes_with_attempts_are_counted() -> None:
    """However long ago they were; older ones go."""
    pulse = after(GOOD, BAD)
    assert pulse.recent == (Minute(0, 2, 1),)
    for number in range(1, MINUTES_KEPT + 2):
        pulse = after(GOOD, pulse=pulse, at_ms=number * 7 * MINUTE_MS)
    assert len(pulse.recent) == MINUTES_KEPT
    assert pulse.recent[0] == Minute(14 * MINUTE_MS, 1, 1)


def test_enabled_again_begins_anew_but_forgets_no_history() -> None:
    """What failed before it was disabled is not held against it."""
    pulse = after(GOOD, BAD).resting(99_000).anew()
    assert (pulse.failing_since_ms, pulse.failures, pulse.resting_until_ms) == (None, 0, None)
    assert (pulse.last_success_ms, pulse.last_failure_ms, len(pulse.recent)) == (0, 1000, 1)
