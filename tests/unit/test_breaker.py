"""When a subscriber may be sent to: the breaker and the rate."""

import pytest

from relay.core.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, OPEN_AFTER, Breaker, Pace, Window, speaks_against
from relay.core.envelope import Receiver, SigningKey
from relay.core.log import START
from relay.core.outcome import Outcome, Reply
from relay.core.subscriber import Subscriber
from relay.dispatcher.lane import Lane

GOOD = Reply(Outcome.DELIVERED, 204)
BAD = Reply(Outcome.CONNECT)


def _opened(breaker: Breaker) -> Breaker:
    for _ in range(OPEN_AFTER):
        breaker.ended(BAD, 0.0, 0.0, probe=breaker.began())
    return breaker


def _lane() -> Lane:
    subscriber = Subscriber(id="sub_1", url="https://lms.example.org/")
    return Lane(Receiver(subscriber, [SigningKey(b"k" * 32)]), START, committed=None)


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    """A success in between begins the count again."""
    breaker = Breaker()
    for reply in [BAD] * (OPEN_AFTER - 1) + [GOOD] + [BAD] * (OPEN_AFTER - 1):
        breaker.ended(reply, 0.0, 0.0, probe=False)
    assert not breaker.is_open
    breaker.ended(BAD, 0.0, 0.0, probe=False)
    assert breaker.open_until == FIRST_PAUSE_S


def test_one_probe_at_a_time_goes_out_when_the_pause_is_over() -> None:
    """While it is under way nothing else may: to the subscriber's lane it is no matter of time then."""
    lane = _lane()
    assert lane.wait_s(0.0) == 0.0
    _opened(lane.breaker)
    assert lane.wait_s(FIRST_PAUSE_S - 1.0) == 1.0
    assert lane.wait_s(FIRST_PAUSE_S) == 0.0
    assert lane.breaker.began()
    assert lane.wait_s(FIRST_PAUSE_S) is None


def test_a_probe_that_succeeds_closes_it() -> None:
    """Everything flows again."""
    lane = _lane()
    breaker = _opened(lane.breaker)
    breaker.ended(GOOD, FIRST_PAUSE_S, 0.0, probe=breaker.began())
    assert not breaker.is_open
    assert lane.wait_s(FIRST_PAUSE_S) == 0.0


def test_pauses_double_up_to_a_bound_and_are_never_shortened_by_jitter() -> None:
    """Each failed probe waits twice as long as the one before, up to five minutes."""
    breaker, now, pauses = _opened(Breaker()), FIRST_PAUSE_S, []
    for _ in range(9):
        breaker.ended(BAD, now, 0.0, probe=breaker.began())
        pauses.append((breaker.open_until or 0.0) - now)
        now = breaker.open_until or 0.0
    assert pauses == [10, 20, 40, 80, 160, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    breaker.ended(BAD, now, 1.0, probe=breaker.began())
    assert (breaker.open_until or 0.0) - now == pytest.approx(LONGEST_PAUSE_S * 1.2)


def test_a_late_failure_does_not_lengthen_the_pause() -> None:
    """What began before it opened says nothing new."""
    breaker = _opened(Breaker())
    before = breaker.open_until
    breaker.ended(BAD, 3.0, 0.0, probe=False)
    assert breaker.open_until == before


@pytest.mark.parametrize("asked", [1.0, 60.0, 1e12])
def test_retry_after_pauses_the_subscriber_at_once(asked: float) -> None:
    """Its own wish is heard, up to an hour."""
    breaker = Breaker()
    breaker.ended(Reply(Outcome.STATUS, 429, asked), 0.0, 0.0, probe=False)
    assert breaker.open_until == max(FIRST_PAUSE_S, min(asked, 3600.0))


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_event_says_nothing_about_the_subscriber(status: int) -> None:
    """The event's failure is not the subscriber's."""
    breaker = Breaker()
    for _ in range(50):
        breaker.ended(Reply(Outcome.STATUS, status), 0.0, 0.0, probe=False)
    assert not breaker.is_open


@pytest.mark.parametrize("outcome", [Outcome.PROXY, Outcome.TOO_LARGE])
def test_our_own_failure_is_not_the_subscribers(outcome: Outcome) -> None:
    """A proxy that is down opens no breaker."""
    assert speaks_against(Reply(outcome)) is None


def test_a_rate_is_kept_over_any_span() -> None:
    """At five per second, a hundred attempts take between 19 and 20 seconds, however impatient the asker."""
    pace, now, began = Pace(5.0), 0.0, 0
    while began < 100:
        wait_s = pace.wait_s(now)
        if wait_s:
            now += wait_s + 1e-9
        else:
            pace.began()
            began += 1
    assert 19.0 <= now <= 20.0


def test_a_slow_rate_lets_one_attempt_through_at_a_time() -> None:
    """One every ten seconds is not none."""
    pace = Pace(0.1)
    assert pace.wait_s(0.0) == 0.0
    pace.began()
    assert pace.wait_s(0.0) == pytest.approx(10.0)


def test_no_rate_is_no_limit() -> None:
    """Without a rate nothing waits."""
    pace = Pace(None)
    for _ in range(1000):
        assert pace.wait_s(0.0) == 0.0
        pace.began()


def test_the_window_opens_with_successes_and_closes_with_failures() -> None:
    """A subscriber that nobody knows gets few attempts at once, one that is well as many as it wants."""
    window = Window()
    assert window.size == 1
    for _ in range(15):
        window.ended(GOOD)
    assert window.size == 16
    window.ended(BAD)
    assert window.size == 8
    for _ in range(10):
        window.ended(BAD)
    assert window.size == 1
