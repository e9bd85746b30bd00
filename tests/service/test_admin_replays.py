"""Replays over HTTP: begun, counted, watched, cancelled; bad input refused where it is."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.core.log import Entry
from relay.core.replay import Ending
from tests.helpers import wait_until
from tests.service.admin_api import Answer, Api, admin_api, attempt

DAY = timedelta(days=1)
AGES_AGO = "2001-01-01T00:00:00Z"


async def replay(api: Api, subscriber: dict[str, Any], **body: Any) -> Answer:
    """Ask for one, of everything unless told otherwise."""
    return await api.call("POST", f"/v1/subscribers/{subscriber['id']}/replay", {"since": AGES_AGO, **body})


async def delivered(api: Api, subscriber: dict[str, Any], *entries: Entry) -> None:
    """Let these have been delivered, and the cursor have passed them."""
    results = [attempt(subscriber, entry, 1, "delivered") for entry in entries]
    await api.settle(subscriber["id"], *results, cursor=entries[-1])


def moment(entry: Entry, later_ms: int = 0) -> str:
    """When an event entered the log, or a little later."""
    return (datetime.fromtimestamp(entry.place.ms / 1000, UTC) + timedelta(milliseconds=later_ms)).isoformat()


async def test_a_replay_is_begun_counted_and_shown(redis_client: Redis) -> None:
    """202 answers the record with how many it will send; the same is read afterwards, alone and in the list."""
    async with admin_api(redis_client) as api:
        api.clock.at = datetime.now(UTC) - DAY
        subscriber = await api.subscribe(event_types=["lab.*"])
        entries = await api.mint(5)
        await api.mint(2, "session.completed")
        await delivered(api, subscriber, *entries)
        answer = await replay(api, subscriber, only="all")
        assert answer.status == 202
        body, path = answer.body, f"/v1/subscribers/{subscriber['id']}/replays"
        assert body["id"].startswith("rpl_")
        assert answer.headers["Location"] == f"{path}/{body['id']}"
        assert (body["status"], body["count"], body["count_complete"]) == ("running", 5, True)
        assert (body["matched"], body["sent"], body["progress"], body["note"]) == (0, 0, 0.0, None)
        assert body["since"] == "2001-01-01T00:00:00.000Z"
        assert datetime.fromisoformat(body["begins_at"]) == datetime.fromisoformat(moment(entries[0]))
        assert (await api.get(f"{path}/{body['id']}")).body == body
        assert (await api.get(path)).body == {"data": [body], "next_cursor": None}
        assert [one["action"] for one in api.logs if one["event"] == "admin.change"][-1] == "replay.create"


async def test_only_what_is_not_acknowledged_is_counted_unless_all_is_asked_for(redis_client: Redis) -> None:
    """A dead letter counts, what was delivered does not; `undelivered` is what is meant if nothing is said."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        one, two, three = await api.mint(3)
        await delivered(api, subscriber, one, two)
        await api.settle(subscriber["id"], attempt(subscriber, three, 1, "dead"), cursor=three)
        body = (await replay(api, subscriber)).body
        assert (body["only"], body["count"], body["count_complete"]) == ("undelivered", 1, True)
        await cancel(api, body)
        assert (await replay(api, subscriber, only="all")).body["count"] == 3


async def cancel(api: Api, body: dict[str, Any]) -> Answer:
    """Cancel a replay."""
    return await api.call("DELETE", f"/v1/subscribers/{body['subscriber_id']}/replays/{body['id']}")


async def next_ms(api: Api, entry: Entry) -> None:
    """Wait until nothing can enter the log within the same two milliseconds as an event."""

    async def passed() -> bool:
        return await api.store.deliveries.now_ms() > entry.place.ms + 1

    await wait_until(passed)


async def test_the_range_includes_since_and_excludes_until(redis_client: Redis) -> None:
    """To the millisecond, by when an event entered the log; and only the types that are named."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        entries = []
        for _ in range(4):
            entries += await api.mint(1)
            await next_ms(api, entries[-1])
        (other,) = await api.mint(1, "lab.started")
        await delivered(api, subscriber, *entries, other)
        _, two, _, four = entries

        async def counted(**body: Any) -> int:
            answer = await replay(api, subscriber, only="all", **body)
            assert answer.status == 202, answer.body
            await cancel(api, answer.body)
            return int(answer.body["count"])

        assert await counted(since=moment(two), until=moment(four)) == 2
        assert await counted(since=moment(two, 1), until=moment(four, 1)) == 2
        assert await counted(since=moment(two), until=moment(four, 1)) == 3
        assert await counted(event_types=["lab.started", "session.*"]) == 1
        assert await counted(until=moment(entries[0])) == 0


async def test_a_second_one_is_refused_and_named_until_the_first_has_ended(redis_client: Redis) -> None:
    """409 says which one runs; cancelled, it is shown as that, and cancelling it again changes nothing."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        await api.mint(2)
        first = (await replay(api, subscriber)).body
        refused = await replay(api, subscriber)
        assert (refused.status, first["id"] in refused.body["detail"]) == (409, True)
        stopped = await cancel(api, first)
        assert (stopped.status, stopped.body["status"]) == (200, "cancelled")
        assert stopped.body["finished_at"] >= first["created_at"]
        assert (await cancel(api, first)).body == stopped.body
        second = (await replay(api, subscriber)).body
        listed = await api.pages(f"/v1/subscribers/{subscriber['id']}/replays", limit=1)
        assert {one["id"]: one["status"] for one in listed} == {second["id"]: "running", first["id"]: "cancelled"}
        assert [one["action"] for one in api.logs if one["event"] == "admin.change"][-2:] == [
            "replay.cancel",
            "replay.create",
        ]


async def test_what_has_outlived_its_retention_is_said(redis_client: Redis) -> None:
    """A range that begins before the oldest event kept begins there, and the answer says so."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        entries = await api.mint(1)
        await next_ms(api, entries[0])
        entries += await api.mint(2)
        await delivered(api, subscriber, *entries)
        assert await api.store.log.trim(entries[1].place.ms) == 1
        body = (await replay(api, subscriber, only="all")).body
        assert (body["count"], "retention" in body["note"]) == (2, True)
        assert datetime.fromisoformat(body["begins_at"]) == datetime.fromisoformat(moment(entries[1]))
        await cancel(api, body)
        assert (await replay(api, subscriber, since=moment(entries[2]))).body["note"] is None


async def test_a_range_too_long_to_count_says_at_least(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request looks at so much and no more; the record says that the count is of the beginning only."""
    monkeypatch.setattr("relay.arrears.CHUNK", 2)
    monkeypatch.setattr("relay.arrears.COUNTED", 4)
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        await api.mint(9)
        body = (await replay(api, subscriber, only="all")).body
        assert (body["count"], body["count_complete"]) == (4, False)


async def test_a_disabled_subscribers_replay_says_that_it_waits(redis_client: Redis) -> None:
    """It may be begun all the same, and says what it waits for."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe(enabled=False)
        await api.mint(1)
        body = (await replay(api, subscriber, only="all")).body
        assert "disabled" in body["note"]


async def test_an_ended_replay_is_shown_with_its_end(redis_client: Redis) -> None:
    """When, how, and if it failed why."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        body = (await replay(api, subscriber)).body
        assert (body["begins_at"], body["count"], body["progress"]) == (None, 0, 1.0)
        (stored,) = await api.store.replays.of(subscriber["id"])
        await api.store.replays.end(
            subscriber["id"], stored.plan.id, Ending("failed", stored.plan.created_ms, "a mistake")
        )
        (shown,) = await api.pages(f"/v1/subscribers/{subscriber['id']}/replays")
        assert (shown["status"], shown["reason"], shown["finished_at"]) == ("failed", "a mistake", body["created_at"])


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no since": ({"since": None}, "/since"),
    "since without an offset": ({"since": "2026-11-21T17:00:00"}, "/since"),
    "since in the future": ({"since": "2100-01-01T00:00:00Z"}, "/since"),
    "until before since": ({"until": "2000-01-01T00:00:00Z"}, "/until"),
    "until without an offset": ({"until": "2026-11-21T17:00:00"}, "/until"),
    "unknown selection": ({"only": "failed"}, "/only"),
    "unknown type": ({"event_types": ["lab.complete"]}, "/event_types/0"),
    "no types": ({"event_types": []}, "/event_types"),
    "unknown field": ({"from": AGES_AGO}, "/from"),
}


async def test_bad_input_is_refused_where_it_is(redis_client: Redis) -> None:
    """422 with a pointer, and nothing is begun; an unknown subscriber or replay is a 404."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        for name, (body, pointer) in BAD.items():
            answer = await replay(api, subscriber, **body)
            assert (name, answer.status, answer.pointers) == (name, 422, [pointer])
        path = f"/v1/subscribers/{subscriber['id']}"
        assert (await api.call("POST", f"{path}/replay", {})).pointers == ["/since"]
        assert (await replay(api, {"id": "sub_nobody"})).status == 404
        for method in ("GET", "DELETE"):
            assert (await api.call(method, f"{path}/replays/rpl_none")).status == 404
        assert (await api.get("/v1/subscribers/sub_nobody/replays")).status == 404
        assert await api.store.replays.running() == {}
