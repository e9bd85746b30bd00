"""Counters: which ones an attempt adds to, and what percentiles say of them."""

import random
import statistics
from collections import Counter

import pytest

from relay.core.log import Attempt
from relay.core.tally import DURATIONS, LAGS, bounds_of, bucket_of, buckets, percentile, tally

ENTERED_MS = 1_795_290_667_000


def attempt(outcome: str, verdict: str, duration_ms: int, *, waited_ms: int = 0) -> Attempt:
    """An attempt that began `waited_ms` after its event had entered the log."""
    place, started = f"{ENTERED_MS}-0", ENTERED_MS + waited_ms
    return Attempt(
        "sub_a", place, "evt_1", "lab.completed", 1, started, duration_ms, outcome, 200, verdict, None, "", b""
    )


def test_attempts_count_by_outcome_and_verdict() -> None:
    """Each attempt counts once, with its duration; only a delivery has a lag."""
    counts = tally([
        attempt("delivered", "delivered", 5, waited_ms=2),
        attempt("delivered", "delivered", 5, waited_ms=2),
        attempt("status", "retry", 3),
    ])  # fmt: skip
    assert counts == {"a:delivered:delivered": 2, "d:5": 2, "l:7": 2, "a:status:retry": 1, "d:3": 1}


def test_a_clock_that_runs_behind_makes_no_negative_lag() -> None:
    """The store's clock dates the event, a replica's the attempt."""
    assert tally([attempt("delivered", "delivered", 1, waited_ms=-500)])["l:0"] == 1


def test_every_time_lies_in_its_bucket() -> None:
    """Buckets have no holes, and none is wider than a quarter of where it begins."""
    for ms in [*range(2000), *(2**power + step for power in range(11, 32) for step in (-1, 0, 1))]:
        low, high = bounds_of(bucket_of(ms))
        assert low <= ms < high
        assert high - low <= max(low / 4, 1)
        assert bucket_of(high) == bucket_of(ms) + 1


def test_the_number_of_buckets_is_bounded() -> None:
    """Whatever a clock says, it falls into one of a known set."""
    assert bucket_of(10**30) == bucket_of(2**32 - 1) < 128


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_percentiles_are_near_the_measured_ones(share: float) -> None:
    """A percentile of the buckets lies within 25 % of that of the values."""
    rng = random.Random(3)
    times = sorted(int(rng.lognormvariate(4, 1.2)) for _ in range(5000))
    exact = statistics.quantiles(times, n=100, method="inclusive")[round(share * 100) - 1]
    assert percentile(Counter(map(bucket_of, times)), share) == pytest.approx(exact, rel=0.25)


def test_one_value_is_every_percentile() -> None:
    """A single short time is told exactly."""
    assert [percentile({7: 1}, share) for share in (0.5, 0.99)] == [7, 7]


def test_distributions_are_kept_apart() -> None:
    """Durations and lags are read from the same counters by their names."""
    counts = {"d:5": 2, "l:90": 1, "a:delivered:delivered": 2}
    assert (buckets(counts, DURATIONS), buckets(counts, LAGS)) == ({5: 2}, {90: 1})
