"""GET /v1/statistics: throughput, outcomes and latency over time, from counters that all replicas share.

Every step of the time asked for is answered, those in which nothing happened too; the last one may not be over yet.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web
from pydantic import ConfigDict, Field

from relay.admin.attempt_schema import moment
from relay.admin.examples import STATISTICS
from relay.admin.fields import Described, Digits, Instant, Moment, example
from relay.admin.pages import NoQuery, json_response
from relay.admin.problems import FieldError, invalid
from relay.admin.requests import read_query
from relay.admin.routes import Route
from relay.clock import Clock
from relay.core import tally
from relay.core.retry import Verdict
from relay.store.statistics import HOUR_S, HOURS_KEPT_S, MINUTE_S, MINUTES_KEPT_S, StatisticsStore

MAX_STEPS: Final = 500
_DEFAULT_SPAN_S: Final = HOUR_S
_SHARES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class StatisticsQuery(NoQuery):
    """Which time, in steps of what length."""

    since: Instant | None = None
    """The first step begins here or before; left out: an hour before `until`."""
    until: Instant | None = None
    """The last step ends here or after; left out: now."""
    step_s: Digits = Field(default=MINUTE_S, ge=MINUTE_S, le=24 * HOUR_S, multiple_of=MINUTE_S)
    """Whole minutes within the last day, whole hours within the last week."""


class Percentiles(Described):
    """Milliseconds within which half, 95 % and 99 % lie, at most 25 % off."""

    p50: float
    p95: float
    p99: float


class StepOut(Described):
    """What happened within `step_s` from `at` on."""

    at: Moment
    events: dict[str, int]
    """Events that entered the log, by source (`relay` for its own)."""
    attempts: int
    outcomes: dict[str, int]
    """Attempts by outcome, `delivered` included."""
    delivered: int
    dead: int
    """Deliveries that ended: acknowledged, or given up."""
    attempt_ms: Percentiles | None
    """How long attempts took; null where there was none."""
    lag_ms: Percentiles | None
    """From an event's entry in the log to its acknowledgement, with waits for retries; null where there was none."""


class StatisticsOut(Described):
    """Statistics over time."""

    model_config = ConfigDict(json_schema_extra=example(STATISTICS))

    since: Moment
    until: Moment
    step_s: int
    data: list[StepOut]


class Statistics:
    """The route /v1/statistics."""

    def __init__(self, store: StatisticsStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        summary = "Throughput, outcomes and latency over time"
        return (Route("GET", "/v1/statistics", self._get, summary, {200: StatisticsOut}, query=StatisticsQuery),)

    async def _get(self, request: web.Request) -> web.Response:
        since_s, until_s, step_s = self._span(read_query(request, StatisticsQuery))
        grain_s = HOUR_S if step_s % HOUR_S == 0 else MINUTE_S
        counted = await self._store.read(since_s, until_s, grain_s)
        steps = {at_s: Counter[str]() for at_s in range(since_s, until_s, step_s)}
        for at_s, counts in counted.items():
            steps[at_s - (at_s - since_s) % step_s].update(counts)
        body = {
            "since": moment(since_s * 1000),
            "until": moment(until_s * 1000),
            "step_s": step_s,
            "data": [_shown(at_s, counts) for at_s, counts in steps.items()],
        }
        return json_response(body)

    def _span(self, query: StatisticsQuery) -> tuple[int, int, int]:
        """Whole steps, in Unix seconds, that hold the time asked for."""
        now_s, step_s = int(self._clock.now().timestamp()), query.step_s
        asked_until_s = now_s + 1 if query.until is None else int(query.until.timestamp())
        until_s = -(-min(asked_until_s, now_s + 1) // step_s) * step_s
        asked_s = until_s - _DEFAULT_SPAN_S if query.since is None else int(query.since.timestamp())
        since_s = min(asked_s, until_s - step_s) // step_s * step_s
        if query.since is not None and asked_s > now_s:
            raise invalid(FieldError("/since", "lies in the future"))
        if query.since is not None and asked_s >= asked_until_s:
            raise invalid(FieldError("/until", "must be later than since"))
        if (until_s - since_s) // step_s > MAX_STEPS:
            raise invalid(FieldError("/step_s", f"makes more than {MAX_STEPS} steps: give a longer one"))
        self._check_kept(now_s - since_s, step_s)
        return since_s, until_s, step_s

    @staticmethod
    def _check_kept(age_s: int, step_s: int) -> None:
        if age_s > HOURS_KEPT_S + step_s:
            raise invalid(FieldError("/since", f"lies before what is kept: {HOURS_KEPT_S // HOUR_S // 24} days"))
        if step_s % HOUR_S and age_s > MINUTES_KEPT_S + step_s:
            raise invalid(FieldError("/step_s", "minutes are kept for a day: give whole hours (3600, 7200, …)"))


def _shown(at_s: int, counts: Counter[str]) -> dict[str, Any]:
    outcomes, verdicts, events = Counter[str](), Counter[str](), dict[str, int]()
    for name, count in sorted(counts.items()):
        if name.startswith(tally.ATTEMPTS):
            _, outcome, verdict = name.split(":")
            outcomes[outcome] += count
            verdicts[verdict] += count
        elif name.startswith(tally.EVENTS):
            events[name.removeprefix(tally.EVENTS)] = count
    return {
        "at": moment(at_s * 1000),
        "events": events,
        "attempts": outcomes.total(),
        "outcomes": outcomes,
        "delivered": verdicts[Verdict.DELIVERED],
        "dead": verdicts[Verdict.DEAD],
        "attempt_ms": _percentiles(tally.buckets(counts, tally.DURATIONS)),
        "lag_ms": _percentiles(tally.buckets(counts, tally.LAGS)),
    }


def _percentiles(distribution: dict[int, int]) -> dict[str, float] | None:
    if not distribution:
        return None
    return {name: round(tally.percentile(distribution, share), 1) for name, share in _SHARES.items()}
