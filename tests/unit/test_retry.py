"""What follows from an outcome: never early, never beyond the schedule, never for ever."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.outcome import Outcome, Reply
from relay.core.retry import (
    DEFAULT_SCHEDULE_S,
    JITTER,
    MAX_RETRY_AFTER_S,
    Decision,
    Verdict,
    backoff_s,
    decide,
    poll_backoff_s,
)

JITTERS = st.floats(0, 1)
SCHEDULES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=12)
FAILURES = [outcome for outcome in Outcome if outcome not in (Outcome.DELIVERED, Outcome.TOO_LARGE)]


def test_the_default_schedule_is_the_contracts() -> None:
    """Standard Webhooks' example: ten attempts within about three days."""
    assert DEFAULT_SCHEDULE_S == (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)


@given(SCHEDULES, JITTERS)
def test_jitter_only_lengthens_and_by_a_fifth_at_most(schedule: list[float], jitter: float) -> None:
    """Jitter that makes a retry early (svix): here none is."""
    for attempt_no, step in enumerate(schedule, 1):
        delay = backoff_s(attempt_no, schedule, jitter)
        assert delay is not None
        assert step <= delay <= step * (1 + JITTER) * (1 + 1e-9)


@given(SCHEDULES, JITTERS, st.sampled_from(FAILURES), st.none() | st.integers(100, 599), st.none() | st.floats(0))
def test_a_failure_is_tried_again_until_the_schedule_ends(
    schedule: list[float], jitter: float, outcome: Outcome, status: int | None, asked: float | None
) -> None:
    """Every class of failure but one (below); after the last step the delivery is dead."""
    reply = Reply(outcome, status, asked)
    for attempt_no in range(1, len(schedule) + 1):
        decision = decide(reply, attempt_no, schedule, jitter)
        assert decision.verdict is Verdict.RETRY
        assert decision.delay_s >= schedule[attempt_no - 1]
        assert math.isfinite(decision.delay_s)
        assert decision.delay_s <= max(schedule[attempt_no - 1] * (1 + JITTER), MAX_RETRY_AFTER_S)
    assert decide(reply, len(schedule) + 1, schedule, jitter) == Decision(Verdict.DEAD)


@given(SCHEDULES, st.integers(1, 20), JITTERS)
def test_what_is_too_large_is_dead_at_once(schedule: list[float], attempt_no: int, jitter: float) -> None:
    """No later attempt would find it smaller."""
    assert decide(Reply(Outcome.TOO_LARGE), attempt_no, schedule, jitter) == Decision(Verdict.DEAD)


@pytest.mark.parametrize("attempt_no", [1, 9, 10, 11])
def test_a_delivery_is_done_on_whichever_attempt(attempt_no: int) -> None:
    """Success needs no schedule."""
    assert decide(Reply(Outcome.DELIVERED, 204), attempt_no, DEFAULT_SCHEDULE_S, 0.5) == Decision(Verdict.DELIVERED)


@pytest.mark.parametrize(
    ("asked", "expected"), [(None, 5.0), (0.0, 5.0), (1.0, 5.0), (60.0, 60.0), (1e99, 86400.0), (math.inf, 86400.0)]
)
def test_retry_after_lengthens_within_a_day(asked: float | None, expected: float) -> None:
    """A subscriber may ask for more time, not for less, and not for ever."""
    assert decide(Reply(Outcome.STATUS, 429, asked), 1, DEFAULT_SCHEDULE_S, 0.0).delay_s == expected


def test_the_poll_backs_off_to_five_minutes() -> None:
    """It doubles from the interval and stops at the ceiling."""
    assert [poll_backoff_s(failures, 30, 0.0) for failures in (1, 2, 3, 4, 5, 10_000)] == [
        30,
        60,
        120,
        240,
        300,
        300,
    ]
    assert poll_backoff_s(9, 3600, 0.0) == 3600
    assert poll_backoff_s(1, 30, 1.0) == pytest.approx(36)
