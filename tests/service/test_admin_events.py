"""Events, sources and event types over HTTP."""

import json
from datetime import UTC, datetime, timedelta

import jsonschema  # type: ignore[import-untyped]  # the library has no annotations
import pytest
from redis.asyncio import Redis

from relay.core.catalogue import known_types
from relay.core.errors import FetchError
from relay.core.health import Health
from relay.core.lab import LabFamily
from relay.core.log import START
from relay.core.memory import Digest, Memory
from relay.core.model import Observation
from tests.service.admin_api import Api, admin_api
from tests.service.upstreams import NOW

PATH = "/v1/events"


async def test_the_feed_begins_at_the_oldest_event_and_misses_nothing(redis_client: Redis) -> None:
    """Oldest first, page after page, while the log grows; the last page says that it is the last."""
    async with admin_api(redis_client) as api:
        minted = await api.mint(5)
        first = await api.get(PATH, limit=3)
        minted += await api.mint(2)
        rest = await api.pages(PATH, limit=3, cursor=first.body["next_cursor"])
        items = first.body["data"] + rest
        assert [one["data"]["event_id"] for one in items] == [one.event_id for one in minted]
        assert {"type", "timestamp", "data", "cursor"} == set(items[0])
        assert items[0]["type"] == "lab.completed"
        assert (await api.get(PATH)).body["next_cursor"] is None


async def test_a_consumer_continues_after_what_it_saw_last(redis_client: Redis) -> None:
    """After an item's cursor or an event's id; at the end the page is empty, and later it is not."""
    async with admin_api(redis_client) as api:
        minted = await api.mint(3)
        items = (await api.get(PATH)).body["data"]
        for after in (items[1]["cursor"], minted[1].event_id):
            answer = await api.get(PATH, after=after)
            assert [one["data"]["event_id"] for one in answer.body["data"]] == [minted[2].event_id]
        end = items[2]["cursor"]
        assert (await api.get(PATH, after=end)).body == {"data": [], "next_cursor": None, "at_end": True}
        (fresh,) = await api.mint()
        answer = await api.get(PATH, after=end)
        assert [one["data"]["event_id"] for one in answer.body["data"]] == [fresh.event_id]


async def test_filters_name_types_sources_and_entities(redis_client: Redis) -> None:
    """Types take the same patterns as subscriptions; conditions add up."""
    async with admin_api(redis_client) as api:
        completed = await api.mint(2, "lab.completed")
        (failed,) = await api.mint(1, "lab.failed.save")
        for query, wanted in (
            ({"event_type": "lab.*"}, [*completed, failed]),
            ({"event_type": "lab.failed.*"}, [failed]),
            ({"event_type": "*.completed"}, completed),
            ({"source": "lod"}, [*completed, failed]),
            ({"source": "exams"}, []),
            ({"entity_id": completed[1].entity_id}, [completed[1]]),
            ({"entity_id": completed[1].entity_id, "event_type": "lab.failed.*"}, []),
        ):
            found = await api.pages(PATH, **query)
            assert [one["data"]["event_id"] for one in found] == [one.event_id for one in wanted], query


async def test_a_rare_filter_costs_a_bounded_page(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is searched on for a time only; a page that ends empty before the end says so. Together they miss nothing."""
    monkeypatch.setattr("relay.admin.feed.SCAN", 20)
    monkeypatch.setattr("relay.admin.feed.SEARCH_S", 0.0)
    monkeypatch.setattr("relay.admin.feed._CHUNK", 10)
    async with admin_api(redis_client) as api:
        await api.mint(45)
        (rare,) = await api.mint(1, "lab.cancelled")
        first = await api.get(PATH, event_type="lab.cancelled")
        assert first.body["data"] == []
        assert first.body["next_cursor"] is not None
        assert first.body["at_end"] is False
        monkeypatch.setattr("relay.admin.feed.SEARCH_S", 60.0)
        whole = (await api.get(PATH, event_type="lab.cancelled")).body
        assert ([one["data"]["event_id"] for one in whole["data"]], whole["at_end"]) == ([rare.event_id], True)
        nothing = (await api.get(PATH, source="exams")).body
        assert (nothing["data"], nothing["at_end"]) == ([], True)
        assert nothing["next_cursor"] is not None, "what comes later is found from there"
        found = await api.pages(PATH, event_type="lab.cancelled")
        assert [one["data"]["event_id"] for one in found] == [rare.event_id]
        assert len(await api.pages(PATH, event_type="lab.completed", limit=20)) == 45


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("after=xyz", "/after"),
        ("after=evt_unknown", "/after"),
        ("cursor=xyz", "/cursor"),
        ("cursor=WyJldmVudCIsLTEsMF0", "/cursor"),
        ("cursor=WyJldmVudCIsOTk5OTk5OTk5OTk5OTk5OTk5OTksMF0", "/cursor"),
        ("after=a&cursor=b", ""),
        ("event_type=lab.compleeted", "/event_type"),
    ],
)
async def test_a_beginning_that_makes_no_sense_is_refused(redis_client: Redis, query: str, pointer: str) -> None:
    """422 that names the parameter, for numbers written by hand too."""
    async with admin_api(redis_client) as api:
        answer = await api.get(f"{PATH}?{query}")
        assert (answer.status, answer.pointers) == (422, [pointer])


async def test_one_event_is_shown_byte_for_byte_and_without_private_fields(redis_client: Redis) -> None:
    """What is shown is what is signed: `5.00000` stays `5.00000`; IP addresses stay inside."""
    async with admin_api(redis_client) as api:
        (entry,) = await api.mint()
        answer = await api.get(f"{PATH}/{entry.event_id}")
        async with api.http.get(
            f"{PATH}/{entry.event_id}", headers={"Authorization": "Bearer a-token-of-the-operator"}
        ) as response:
            assert await response.read() == entry.payload
        assert b"5.00000" in entry.payload
        assert "192.0.2.1" not in str((answer.body, (await api.get(PATH)).body))
        assert (await api.get(f"{PATH}/evt_unknown")).status == 404
        assert (await api.get(f"{PATH}/x")).status == 404


async def test_a_trimmed_event_is_gone(redis_client: Redis) -> None:
    """Retention: 404, and the feed begins later."""
    async with admin_api(redis_client) as api:
        (old,) = await api.mint()
        await api.store.log.trim(old.place.ms + 1)
        assert (await api.get(f"{PATH}/{old.event_id}")).status == 404
        assert (await api.get(PATH)).body["data"] == []


async def _status(api: Api, health: Health, watermark: datetime | None) -> None:
    meta = {"status:lod": health.status()} | ({"wm:lod": watermark.isoformat()} if watermark else {})
    held = await api.store.leases.tick("test", "poll", ["lod"], (), ttl_ms=60_000)
    await api.store.snapshots.mint("lod", held.tokens["source.lod"], 1, (), meta)


async def test_a_source_shows_how_fresh_it_is(redis_client: Redis) -> None:
    """Pending before the first poll; then status, error, watermark and lag."""
    async with admin_api(redis_client) as api:
        listed = await api.get("/v1/sources")
        assert [(one["name"], one["kind"], one["status"]) for one in listed.body["data"]] == [
            ("exams", "learnosity", "pending"),
            ("lod", "lod", "pending"),
        ]
        assert (listed.body["data"][1]["watermark"], listed.body["data"][1]["lag_s"]) == (None, None)
        health = Health()
        error = FetchError("timeout", "no complete answer within 30 s")
        health.fail(error.reason, str(error), NOW)
        await _status(api, health, NOW - timedelta(seconds=90))
        body = (await api.get("/v1/sources/lod")).body
        assert (body["status"], body["failures"], body["error"]["reason"]) == ("failing", 1, "timeout")
        assert (body["watermark"], body["lag_s"], body["interval_s"]) == ("2026-11-21T16:59:00.250Z", 90, 30)
        assert (await api.get("/v1/sources/lodd")).status == 404
        assert [one["name"] for one in await api.pages("/v1/sources", limit=1)] == ["exams", "lod"]


async def test_a_source_says_how_fresh_what_is_known_is(redis_client: Redis) -> None:
    """Never looked at, fresh, stale; when the next poll begins, and for how long it has been due."""
    async with admin_api(redis_client) as api:
        body = (await api.get("/v1/sources/lod")).body
        assert (body["freshness"], body["next_poll_at"], body["overdue_s"]) == ("never", None, 0)
        health = Health()
        health.succeed(NOW, Digest(), 3, 1)
        health.expect(NOW, 30)
        await _status(api, health, NOW)
        body = (await api.get("/v1/sources/lod")).body
        assert (body["freshness"], body["next_poll_at"], body["overdue_s"]) == ("fresh", "2026-11-21T17:01:00.250Z", 0)
        api.clock.advance(91)
        body = (await api.get("/v1/sources/lod")).body
        assert (body["status"], body["freshness"], body["overdue_s"]) == ("ok", "stale", 61)


async def test_a_source_shows_samples_of_the_rows_that_it_keeps_out(redis_client: Redis) -> None:
    """Reason, field, shape and entity; the value nowhere."""
    digest = Memory(LabFamily(), {}).digest(
        [b'{"LabInstanceId":7,"CompletionStatus":"ann@example.org"}'], Observation("lod", NOW)
    )
    health = Health()
    health.succeed(NOW, digest, 3, 1)
    async with admin_api(redis_client) as api:
        await _status(api, health, NOW)
        body = (await api.get("/v1/sources/lod")).body
        (sample,) = body["invalid_samples"]
        assert sum(body["invalid_rows"].values()) == 1
        assert (sample["field"], sample["shape"], sample["entity_id"], sample["at"]) == (
            "CompletionStatus",
            "text of 17 bytes",
            "7",
            "2026-11-21T17:00:30.250Z",
        )
        assert "ann" not in str(body)


async def test_a_poll_is_announced_to_every_replica(redis_client: Redis) -> None:
    """202, and a message in the control stream that the holder of the source reads."""
    async with admin_api(redis_client) as api:
        await _status(api, Health(), NOW)
        answer = await api.call("POST", "/v1/sources/lod/poll")
        assert (answer.status, answer.body["source"], answer.body["note"]) == (202, "lod", None)
        assert answer.body["expected_at"] == answer.body["requested_at"]
        news = await api.store.log.wait(START, START, block_ms=10)
        assert [(kind, value) for _, kind, value in news.control] == [("poll", "lod")]
        assert (await api.call("POST", "/v1/sources/nowhere/poll")).status == 404


async def test_a_poll_waits_as_long_as_the_upstream_asks(redis_client: Redis) -> None:
    """The answer says when it will really be made, and why not at once; that nobody polls it says too."""
    async with admin_api(redis_client) as api:
        health = Health()
        health.fail("rate_limited", "too many requests", NOW)
        health.expect(NOW, 0, NOW + timedelta(seconds=500))
        await _status(api, health, NOW)
        answer = (await api.call("POST", "/v1/sources/lod/poll")).body
        assert (answer["expected_at"], "Retry-After" in answer["note"]) == ("2026-11-21T17:08:50.250Z", True)
        assert (await api.get("/v1/sources/lod")).body["wait_until"] == answer["expected_at"]
        api.clock.advance(501)
        answer = (await api.call("POST", "/v1/sources/lod/poll")).body
        assert (answer["expected_at"], answer["note"]) == (answer["requested_at"], None)
        answer = (await api.call("POST", "/v1/sources/exams/poll")).body
        assert (answer["expected_at"], "no replica" in answer["note"]) == (None, True)


async def test_the_catalogue_is_served_with_valid_examples(redis_client: Redis) -> None:
    """Every type once, in pages; each example fits its schema, also over the wire."""
    async with admin_api(redis_client) as api:
        types = await api.pages("/v1/event-types", limit=10)
        assert sorted(one["type"] for one in types) == sorted(known_types())
        for one in types:
            jsonschema.Draft202012Validator(one["schema"]).validate(one["example"])
        single = await api.get("/v1/event-types/lab.completed")
        assert single.body == next(one for one in types if one["type"] == "lab.completed")
        assert (await api.get("/v1/event-types/lab.nothing")).status == 404


async def test_times_are_utc_with_z(redis_client: Redis) -> None:
    """RFC 3339 throughout."""
    async with admin_api(redis_client) as api:
        await _status(api, Health(), datetime.now(UTC))
        text = json.dumps((await api.get("/v1/sources/lod")).body)
        assert "+00:00" not in text


async def test_what_is_not_found_is_told_with_what_there_is(redis_client: Redis) -> None:
    """A test is not kept, a source is one of these, a path has no slash at its end; a stream without `after` is now."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe(url="http://127.0.0.1:9/")
        sent = await api.call("POST", f"/v1/subscribers/{subscriber['id']}/test")
        for path, told in (
            (f"{PATH}/{sent.body['event_id']}", "tests (relay.test) are sent, and not kept"),
            (f"{PATH}/{sent.body['event_id']}/explain", "tests (relay.test) are sent, and not kept"),
            ("/v1/sources/lodd", "there are: exams, lod"),
            ("/v1/entities/lodd/1", "there are:"),
            ("/v1/subscribers/", "paths end without a slash"),
        ):
            answer = await api.get(path)
            assert answer.status == 404
            assert told in answer.body["detail"], path
        stream = await api.get(f"{PATH}/stream", after="evt_" + "a" * 26)
        assert (stream.status, stream.pointers) == (422, ["/after"])
        assert "to begin now" in stream.body["errors"][0]["detail"]
