"""The window arithmetic: too wide where in doubt, never too narrow."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.windows import (
    LOD_MAX_MINUTES,
    LOD_MAX_SPAN,
    LearnosityWindow,
    LodPlan,
    clock_offset_s,
    is_outage,
    learnosity_watermark,
    plan_learnosity,
    plan_lod,
)

NOW = datetime(2026, 11, 21, 17, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
WEEK = timedelta(days=7)


def lod(ago: timedelta | None, *, overlap_s: float = 900, widest: bool = False) -> LodPlan:
    """Plan a poll whose watermark is `ago` old."""
    return plan_lod(NOW, None if ago is None else NOW - ago, interval_s=30, overlap_s=overlap_s, widest=widest)


def learnosity(ago_s: float | None, *, overlap_s: float = 120, offset_s: float = 0.0) -> LearnosityWindow:
    """Plan a poll whose watermark is `ago_s` old."""
    return plan_learnosity(
        NOW,
        None if ago_s is None else NOW - timedelta(seconds=ago_s),
        interval_s=10,
        overlap_s=overlap_s,
        settle_s=2,
        lookback_s=7 * 86400,
        offset_s=offset_s,
    )


@pytest.mark.parametrize(
    ("ago_s", "overlap_s", "minutes"),
    [
        (30, 900, 16),
        (60, 900, 16),
        (61, 900, 17),
        (30, 0, 1),
        (30, 30, 2),
        (0, 0, 1),
        (3 * 3600, 900, 195),
        (7 * 86400 - 900, 900, LOD_MAX_MINUTES),
    ],
)
def test_minutes_cover_the_time_since_the_watermark_and_the_overlap(
    ago_s: float, overlap_s: float, minutes: int
) -> None:
    """Both parts are rounded up to whole minutes, and at least one minute is asked for."""
    plan = lod(timedelta(seconds=ago_s), overlap_s=overlap_s)
    assert (minutes, ()) == (plan.minutes, plan.slices)


def test_first_poll_asks_for_seven_days() -> None:
    """Without a watermark everything that the upstream can show is asked for, marked as caught up."""
    assert LodPlan((), LOD_MAX_MINUTES, backfill=True, gap=None) == lod(None)


def test_a_sweep_asks_for_seven_days_without_calling_it_an_outage() -> None:
    """The widest window alone does not make its rows backfill."""
    assert LodPlan((), LOD_MAX_MINUTES, backfill=False, gap=None) == lod(timedelta(seconds=30), widest=True)


@pytest.mark.parametrize(("ahead_s", "minutes"), [(5, 15), (900, 15), (901, LOD_MAX_MINUTES)])
def test_a_watermark_from_the_future_widens_the_window(ahead_s: float, minutes: int) -> None:
    """A small skew is covered by the overlap; behind a large one nobody knows how much time has passed."""
    assert minutes == lod(timedelta(seconds=-ahead_s)).minutes


@pytest.mark.parametrize(("ago_s", "backfill"), [(30, False), (600, False), (601, True), (86400, True)])
def test_a_long_silence_is_backfill(ago_s: float, backfill: bool) -> None:  # noqa: FBT001 - a parametrised value
    """Rows seen after more than ten minutes (and five intervals) were not seen as they happened."""
    assert backfill is lod(timedelta(seconds=ago_s)).backfill
    assert backfill is learnosity(ago_s).backfill


def test_a_slow_source_is_not_in_an_outage_between_two_polls() -> None:
    """With long intervals, five of them count."""
    assert not is_outage(5 * 3600, interval_s=3600)
    assert is_outage(5 * 3600 + 1, interval_s=3600)


def test_an_outage_over_seven_days_is_walked_and_its_gap_recorded() -> None:
    """Slices of seven days reach from the watermark into LatestResults' window; what lies before it is a gap."""
    plan = lod(timedelta(days=17))
    assert len(plan.slices) == 2
    assert NOW - timedelta(days=17, minutes=15) == plan.slices[0].start
    assert NOW - WEEK + timedelta(hours=1) == plan.slices[-1].end
    assert (NOW - timedelta(days=17), NOW - WEEK) == plan.gap
    assert (plan.minutes, plan.backfill) == (LOD_MAX_MINUTES, True)


def test_an_overlap_alone_beyond_seven_days_is_walked_without_a_gap() -> None:
    """The watermark itself still lies in LatestResults' window, so nothing can have been missed."""
    plan = lod(WEEK - timedelta(minutes=5))
    assert (len(plan.slices), plan.gap) == (1, None)


@given(
    ago_s=st.floats(min_value=-1e6, max_value=3e7),
    overlap_s=st.floats(min_value=0, max_value=86400),
    back=st.floats(min_value=0, max_value=1),
)
def test_every_moment_since_the_watermark_lies_in_some_window(ago_s: float, overlap_s: float, back: float) -> None:
    """Slices and LatestResults together leave no hole, and no span exceeds what the vendor accepts."""
    plan = lod(timedelta(seconds=ago_s), overlap_s=overlap_s)
    moment = NOW - timedelta(seconds=max(ago_s, 0.0) * back)
    spans = [*plan.slices, (NOW - timedelta(minutes=plan.minutes), NOW)]
    assert any(start <= moment <= end for start, end in spans)
    assert all(timedelta(0) < end - start <= LOD_MAX_SPAN for start, end in plan.slices)
    assert 1 <= plan.minutes <= LOD_MAX_MINUTES
    assert all(left.end > right.start for left, right in zip(plan.slices, plan.slices[1:], strict=False))


def test_learnosity_window_runs_from_overlap_to_settled_server_time() -> None:
    """Both bounds are whole seconds of the server's clock."""
    assert LearnosityWindow(NOW_S - 130, NOW_S - 2, backfill=False) == learnosity(10)
    assert LearnosityWindow(NOW_S - 130, NOW_S - 43, backfill=False) == learnosity(10, offset_s=-40.5)


def test_learnosity_overlap_is_at_least_a_second() -> None:
    """Whether the bounds are inclusive is not documented."""
    assert learnosity(10, overlap_s=0).mintime == NOW_S - 11


def test_learnosity_first_poll_looks_back() -> None:
    """Without a watermark the look-back decides, marked as caught up."""
    assert LearnosityWindow(NOW_S - 7 * 86400, NOW_S - 2, backfill=True) == learnosity(None)


def test_learnosity_window_never_turns_round_and_its_watermark_never_goes_back() -> None:
    """A watermark ahead of the settled server time keeps its place until the clock has caught up."""
    window = learnosity(-600)
    watermark = NOW + timedelta(seconds=600)
    assert window.mintime == window.maxtime
    assert watermark == learnosity_watermark(window, NOW_S, 2, watermark)


@pytest.mark.parametrize(("stamp_s", "behind_s"), [(NOW_S, 2), (NOW_S + 90, 2), (NOW_S - 90, 92)])
def test_learnosity_watermark_is_the_earlier_of_window_end_and_settled_stamp(stamp_s: int, behind_s: int) -> None:
    """A server that is behind us has not written yet what `maxtime` allows."""
    expected = NOW - timedelta(seconds=behind_s)
    assert expected == learnosity_watermark(learnosity(600), stamp_s, 2, NOW - timedelta(seconds=600))


@pytest.mark.parametrize(
    ("stamp_s", "offset_s"),
    [(NOW_S + 40, 40.0), (NOW_S - 40, -40.0), (NOW_S + 11_000, None), (NOW_S * 1000, None), (float("nan"), None)],
)
def test_an_implausible_server_clock_is_not_learned(stamp_s: float, offset_s: float | None) -> None:
    """A stamp in milliseconds must not carry the window, and with it the watermark, into the far future."""
    assert offset_s == clock_offset_s(stamp_s, NOW)
