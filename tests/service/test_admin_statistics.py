"""GET /v1/statistics and GET /v1/subscribers/{id}/health over HTTP, on what a poller and a dispatcher have written."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.core.events import rfc3339
from relay.store.keys import shard_of
from tests.service.admin_api import Api, admin_api, attempt


@pytest.fixture
async def api(redis_client: Redis) -> AsyncIterator[Api]:
    """Provide the API, at the time that it is."""
    async with admin_api(redis_client) as served:
        served.clock.at = datetime.now(UTC)
        yield served


def ago(**since: float) -> str:
    """A time before now."""
    return rfc3339(datetime.now(UTC) - timedelta(**since)) or ""


async def delivered(api: Api, count: int, failing: int = 0) -> dict[str, Any]:
    """Let a subscriber have had so many events, and failed at some more."""
    subscriber = await api.subscribe()
    entries = await api.mint(count + failing)
    results = [attempt(subscriber, one, 1, "delivered") for one in entries[:count]]
    results += [attempt(subscriber, one, 1, "dead") for one in entries[count:]]
    await api.settle(subscriber["id"], *results, cursor=entries[-1])
    return subscriber


@pytest.mark.parametrize("step_s", [60, 3600])
async def test_what_happened_is_told_step_by_step(api: Api, step_s: int) -> None:
    """Events by source, attempts by outcome, deliveries by how they ended, and how long it took."""
    await delivered(api, 3, failing=1)
    answer = await api.get("/v1/statistics", since=ago(hours=2), step_s=step_s)
    assert answer.status == 200
    steps = answer.body["data"]
    assert sum(one["events"].get("lod", 0) for one in steps) == 4
    assert sum(one["attempts"] for one in steps) == 4
    assert (sum(one["delivered"] for one in steps), sum(one["dead"] for one in steps)) == (3, 1)
    (busy,) = [one for one in steps if one["attempts"]]
    assert busy["outcomes"] == {"delivered": 3, "status": 1}
    assert busy["attempt_ms"] == {"p50": 13, "p95": 13.9, "p99": 14.0}  # 12 ms lie in the bucket from 12 to 14
    assert busy["lag_ms"]["p99"] == 14


async def test_steps_are_whole_and_without_holes(api: Api) -> None:
    """They begin on the multiples of their length, hold the time asked for, and those without news are empty."""
    answer = await api.get("/v1/statistics", since=ago(minutes=61), until=ago(minutes=1), step_s=300)
    times = [datetime.fromisoformat(one["at"]) for one in answer.body["data"]]
    assert all(one.timestamp() % 300 == 0 for one in times)
    assert {late - early for early, late in pairwise(times)} == {timedelta(seconds=300)}
    assert 12 <= len(times) <= 14
    nothing = {
        "events": {},
        "attempts": 0,
        "outcomes": {},
        "delivered": 0,
        "dead": 0,
        "attempt_ms": None,
        "lag_ms": None,
    }
    assert answer.body["data"][0] == {"at": answer.body["since"], **nothing}


async def test_without_parameters_it_is_the_last_hour(api: Api) -> None:
    """Sixty minutes, the present one included."""
    await delivered(api, 1)
    answer = await api.get("/v1/statistics")
    assert len(answer.body["data"]) == 60
    assert sum(one["delivered"] for one in answer.body["data"][-2:]) == 1


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"since": ago(days=9)}, "/step_s"),
        ({"since": ago(days=9), "step_s": 3600}, "/since"),
        ({"since": ago(days=2), "step_s": 600}, "/step_s"),
        ({"since": ago(days=1)}, "/step_s"),
        ({"since": ago(hours=1), "until": ago(hours=2)}, "/until"),
        ({"since": "yesterday"}, "/since"),
        ({"since": "2026-11-21T17:00:00"}, "/since"),
        ({"step_s": 90}, "/step_s"),
        ({"step_s": 0}, "/step_s"),
        ({"steps": 5}, "/steps"),
        ({"since": "0001-01-01T00:00:00Z"}, "/step_s"),
        ({"until": "0001-01-01T00:00:00Z"}, "/since"),
    ],
)
async def test_a_time_that_is_not_kept_is_refused(api: Api, query: dict[str, str | int], pointer: str) -> None:
    """The answer names the parameter and the mend, rather than show an empty past."""
    answer = await api.get("/v1/statistics", **query)
    assert answer.status == 422
    assert answer.pointers == [pointer]


async def test_a_time_to_come_ends_now(api: Api) -> None:
    """No step is invented that has not begun."""
    answer = await api.get("/v1/statistics", until="9999-12-31T23:59:59Z")
    last = datetime.fromisoformat(answer.body["data"][-1]["at"])
    assert last <= api.clock.at


async def test_health_of_one_who_has_had_everything(api: Api) -> None:
    """Nothing waits, and the last success is told."""
    subscriber = await delivered(api, 3)
    answer = await api.get(f"/v1/subscribers/{subscriber['id']}/health")
    assert answer.status == 200
    assert answer.body["backlog"] == {"count": 0, "complete": True, "oldest_at": None}
    assert (answer.body["recent"]["attempts"], answer.body["recent"]["delivered"]) == (3, 3)
    assert answer.body["last_success_at"] is not None
    assert answer.body["last_failure"] is None
    well = {"status": "ok", "reason": None, "failing_since": None, "failures": 0, "resting_until": None}
    assert answer.body["state"] == well


async def test_health_tells_what_waits_and_what_failed(api: Api) -> None:
    """Queued and retried deliveries count once each; the oldest says since when."""
    subscriber, other = await api.subscribe(), await api.subscribe(event_types=["session.*"])
    entries = await api.mint(5)
    results = [
        attempt(subscriber, entries[0], 1, "retry", next_ms=api.server_ms + 60_000),
        attempt(subscriber, entries[1], 1, "dead"),
        attempt(subscriber, entries[3], 1, "delivered"),
    ]
    await api.settle(subscriber["id"], *results)
    answer = await api.get(f"/v1/subscribers/{subscriber['id']}/health")
    assert answer.body["backlog"]["count"] == 3  # the retry, and the third and fifth events
    assert answer.body["backlog"]["oldest_at"] == _moment(entries[0].place.ms)
    assert answer.body["dead_letters"] == 1
    assert answer.body["last_failure"]["outcome"] == "status"
    assert answer.body["last_failure_at"] is not None
    idle = await api.get(f"/v1/subscribers/{other['id']}/health")
    assert idle.body["backlog"]["count"] == 0


async def test_health_does_not_depend_on_how_much_others_are_sent(api: Api) -> None:
    """Hundreds of groups of attempts of another subscriber of the same shard hide neither success nor failure."""
    mine, busy = await _of_one_shard(api)
    first, second, third = await api.mint(3)
    await api.settle(mine["id"], attempt(mine, first, 1, "delivered"), attempt(mine, second, 1, "dead"))
    for _ in range(120):
        await api.settle(busy["id"], attempt(busy, third, 1, "delivered"))
    body = (await api.get(f"/v1/subscribers/{mine['id']}/health")).body
    assert (body["recent"]["attempts"], body["recent"]["delivered"]) == (2, 1)
    assert body["last_success_at"] is not None
    assert (body["last_failure"]["outcome"], body["last_failure"]["verdict"]) == ("status", "dead")
    assert (body["state"]["status"], body["state"]["reason"], body["state"]["failures"]) == ("failing", "status 500", 1)


async def _of_one_shard(api: Api) -> tuple[dict[str, Any], dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    while True:
        one = await api.subscribe()
        other = found.setdefault(shard_of(one["id"]), one)
        if other is not one:
            return other, one


async def test_a_long_backlog_is_counted_up_to_a_limit(api: Api) -> None:
    """Whoever is thousands behind costs no more than one who is a thousand behind, and the answer says so."""
    subscriber = await api.subscribe()
    await api.mint(1200)
    answer = await api.get(f"/v1/subscribers/{subscriber['id']}/health")
    assert (answer.body["backlog"]["count"], answer.body["backlog"]["complete"]) == (1000, False)


async def test_nobody_has_no_health(api: Api) -> None:
    """A subscriber that does not exist is a 404."""
    assert (await api.get("/v1/subscribers/sub_none/health")).status == 404


def _moment(ms: int) -> str:
    return rfc3339(datetime.fromtimestamp(ms / 1000, UTC)) or ""
