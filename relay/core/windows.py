"""Which window a poll asks for: pure arithmetic over the watermark and the clock.

The invariant: everything that an upstream could show after the watermark lies in some window of the poll.
Where in doubt a window is too wide, never too narrow; rows that are seen twice cost nothing, because they
are diffed.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

LOD_MAX_MINUTES = 10_080
"""Seven days: `Timeframe cannot exceed 7 days` (vendor page of LatestResults)."""
LOD_MAX_SPAN = timedelta(minutes=LOD_MAX_MINUTES)
"""The same bound for `Results?start&end`."""
LOD_SEAM = timedelta(hours=1)
"""LatestResults' window slides on while older slices are fetched: they reach this far into it."""
LOD_LAP = timedelta(minutes=1)
"""What two slices share: whether the ends of a span are inclusive is not documented."""
OUTAGE_INTERVALS = 5
OUTAGE_S = 600.0
CLOCK_SKEW_S = 3 * 3600.0
"""Learnosity refuses a request whose timestamp is further off, so no true answer can show more."""


class Span(NamedTuple):
    """A stretch of time."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class LodPlan:
    """What one LOD poll asks for, in this order: `slices` by Results, then `minutes` by LatestResults."""

    slices: tuple[Span, ...]
    minutes: int
    backfill: bool
    gap: Span | None
    """What lies too far back for LatestResults: intermediate states there may have been missed."""


@dataclass(frozen=True, slots=True)
class LearnosityWindow:
    """The bounds on *updated* time that one Learnosity poll asks for, in Unix seconds of the server's clock."""

    mintime: int
    maxtime: int
    backfill: bool


def is_outage(elapsed_s: float, interval_s: float) -> bool:
    """Whether so long a silence was more than a few late polls; what is seen after one counts as backfill."""
    return elapsed_s > max(OUTAGE_INTERVALS * interval_s, OUTAGE_S)


def plan_lod(
    now: datetime, watermark: datetime | None, *, interval_s: float, overlap_s: float, widest: bool = False
) -> LodPlan:
    """Decide a LOD poll's windows; `watermark` is the moment at which the last complete poll *started*.

    `widest` asks for all seven days whatever the watermark says. A first poll does so too, and so does one
    whose watermark lies in the future by more than the overlap: a clock was set back, so how long ago it
    was is unknown.
    """
    if watermark is None:
        return LodPlan((), LOD_MAX_MINUTES, backfill=True, gap=None)
    elapsed_s = (now - watermark).total_seconds()
    backfill = is_outage(elapsed_s, interval_s)
    wanted = math.ceil(max(elapsed_s, 0.0) / 60) + math.ceil(overlap_s / 60)
    if wanted > LOD_MAX_MINUTES:
        edge = now - LOD_MAX_SPAN
        slices = _slices(watermark - timedelta(seconds=overlap_s), edge + LOD_SEAM)
        return LodPlan(slices, LOD_MAX_MINUTES, backfill, Span(watermark, edge) if watermark < edge else None)
    if widest or elapsed_s < -overlap_s:
        wanted = LOD_MAX_MINUTES
    return LodPlan((), max(wanted, 1), backfill, None)


def _slices(start: datetime, end: datetime) -> tuple[Span, ...]:
    """Cut a stretch into spans that Results accepts; neighbours overlap, so no boundary loses a row."""
    found = [Span(start, min(start + LOD_MAX_SPAN, end))]
    while (stop := found[-1].end) < end:
        start = stop - LOD_LAP
        found.append(Span(start, min(start + LOD_MAX_SPAN, end)))
    return tuple(found)


def plan_learnosity(
    now: datetime,
    watermark: datetime | None,
    *,
    interval_s: float,
    overlap_s: float,
    settle_s: float,
    lookback_s: float,
    offset_s: float = 0.0,
) -> LearnosityWindow:
    """Decide a Learnosity poll's window; `offset_s` is the server's clock minus ours (0 while it is not known).

    `maxtime` stays `settle_s` behind the server, where updates have become visible. The overlap is at least
    a second, because whether the bounds are inclusive is not documented. A watermark ahead of that (an
    unknown offset, a clock set back) must not turn the window round.
    """
    server_now_s = now.timestamp() + offset_s
    maxtime = math.floor(server_now_s - settle_s)
    if watermark is None:
        return LearnosityWindow(math.floor(server_now_s - lookback_s), maxtime, backfill=True)
    since_s = watermark.timestamp()
    mintime = math.floor(since_s - max(overlap_s, 1.0))
    return LearnosityWindow(mintime, max(maxtime, mintime), is_outage(server_now_s - since_s, interval_s))


def learnosity_watermark(
    window: LearnosityWindow, stamp_s: float, settle_s: float, watermark: datetime | None
) -> datetime:
    """How far a complete poll has read: its own end, or the first answer's clock minus the settle time if earlier.

    `stamp_s` is that answer's `meta.timestamp`. The second bound matters when our clock runs ahead of the
    server's: `maxtime` then lay in its future. What was read before stays read, so it never goes back.
    """
    reached = datetime.fromtimestamp(min(window.maxtime, math.floor(stamp_s - settle_s)), UTC)
    return reached if watermark is None else max(reached, watermark)


def clock_offset_s(stamp_s: float, now: datetime) -> float | None:
    """Seconds that the server's clock is ahead of `now`, the moment its answer arrived; None if implausible.

    The stamp is cut to whole seconds and is older than its arrival, so this errs towards a server that is
    behind, which makes a window end early, never late.
    """
    offset_s = stamp_s - now.timestamp()
    return offset_s if abs(offset_s) <= CLOCK_SKEW_S else None
