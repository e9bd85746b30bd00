"""Redelivery over HTTP: one or many, whatever became of them, and how they stand afterwards."""

from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.core.log import Entry, Waiting
from relay.store.keys import Keys, shard_of
from tests.service.admin_api import Answer, Api, admin_api, attempt

PATH = "/v1/deliveries"
FAR_MS = 4_000_000_000_000
"""A due time that does not come during a test (2096)."""


def path_of(subscriber: dict[str, Any], entry: Entry) -> str:
    """Where a delivery is."""
    return f"{PATH}/dlv_{subscriber['id'][4:]}_{entry.event_id[4:]}"


async def redeliver(api: Api, subscriber: dict[str, Any], entry: Entry) -> Answer:
    """Ask for one delivery again."""
    return await api.call("POST", f"{path_of(subscriber, entry)}/redeliver")


async def many(api: Api, **wanted: Any) -> int:
    """Ask for all that a filter names; how many there were."""
    answer = await api.call("POST", f"{PATH}/redeliver", wanted)
    assert answer.status == 202, answer.body
    count: int = answer.body["count"]
    return count


async def waiting(api: Api, subscriber: dict[str, Any]) -> dict[str, int]:
    """Retries of a subscriber with their due times."""
    listed = await api.store.deliveries.waiting(shard_of(subscriber["id"]), 0, 1000)
    return {str(one): due for one, due in listed if one.subscriber_id == subscriber["id"]}


def first(subscriber: dict[str, Any], entry: Entry) -> str:
    """Name of a first attempt among the retries."""
    return str(Waiting(subscriber["id"], entry.place, 1))


async def wakes(api: Api) -> list[str]:
    """Shards that were woken."""
    messages = [fields for _, fields in await api.store.client.xrange(Keys().ctl)]
    return [one[b"v"].decode() for one in messages if one[b"k"] == b"due"]


async def listed(api: Api, **query: str) -> list[tuple[str, str, Any]]:
    """Event, status and attempts of a list."""
    return [(one["event_id"], one["status"], one["attempts"]) for one in await api.pages(PATH, **query)]


async def dying(api: Api, subscriber: dict[str, Any], entry: Entry) -> None:
    """Two attempts, of which the second is the last."""
    await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "retry", next_ms=entry.place.ms), cursor=entry)
    await api.settle(subscriber["id"], attempt(subscriber, entry, 2, "dead"))


async def test_a_dead_letter_goes_out_again_and_may_be_delivered(redis_client: Redis) -> None:
    """It is pending at once, due now, as attempt 1; then delivered, with every attempt on record, listed once."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        (entry,) = await api.mint()
        await dying(api, subscriber, entry)
        answer = await redeliver(api, subscriber, entry)
        assert answer.status == 202
        assert (answer.body["status"], answer.body["note"]) == ("pending", None)
        assert [one["verdict"] for one in answer.body["attempts"]] == ["retry", "dead"]
        assert answer.body["next_attempt_at"] <= datetime.now(UTC).isoformat()
        assert list(await waiting(api, subscriber)) == [first(subscriber, entry)]
        assert await wakes(api) == [str(shard_of(subscriber["id"]))]
        assert await listed(api) == await listed(api, status="pending") == [(entry.event_id, "pending", 0)]
        assert await listed(api, status="dead") == []
        await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "delivered"))
        body = (await api.get(path_of(subscriber, entry))).body
        assert (body["status"], body["attempts_complete"]) == ("delivered", True)
        assert [one["verdict"] for one in body["attempts"]] == ["retry", "dead", "delivered"]
        assert await listed(api) == await listed(api, status="delivered") == [(entry.event_id, "delivered", 1)]
        assert [one["action"] for one in api.logs if one["event"] == "admin.change"][-1] == "delivery.redeliver"


async def test_a_redelivery_goes_through_the_schedule_and_may_die_again(redis_client: Redis) -> None:
    """Attempts are numbered from 1 again: each standing is told from the present round, and listed once."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        (entry,) = await api.mint()
        for rounds in (1, 2, 3):
            await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "retry", next_ms=FAR_MS), cursor=entry)
            assert await listed(api) == [(entry.event_id, "pending", 1)]
            await redeliver(api, subscriber, entry)  # attempt 2 comes before it was announced
            await api.settle(subscriber["id"], attempt(subscriber, entry, 2, "dead"))
            assert await listed(api) == await listed(api, status="dead") == [(entry.event_id, "dead", 2)]
            body = (await api.get(path_of(subscriber, entry))).body
            assert [one["attempt_no"] for one in body["attempts"]] == [1, 2] * rounds
            assert (body["status"], body["cause"], body["attempts_complete"]) == ("dead", "subscriber", True)
            assert (await redeliver(api, subscriber, entry)).body["status"] == "pending"


async def test_a_delivered_one_goes_out_again_each_time(redis_client: Redis) -> None:
    """outpost#670: nothing swallows it; asked for twice before it went out, it goes out once."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        entry, other = await api.mint(2)
        await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "delivered"), cursor=other)
        for rounds in (2, 3):
            for _ in range(2):
                assert (await redeliver(api, subscriber, entry)).body["status"] == "pending"
            assert list(await waiting(api, subscriber)) == [first(subscriber, entry)]
            assert await listed(api) == [(entry.event_id, "pending", 0)]
            await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "delivered"))
            assert await listed(api) == [(entry.event_id, "delivered", 1)]
            assert len((await api.get(path_of(subscriber, entry))).body["attempts"]) == rounds
        assert len(await wakes(api)) == 2


async def test_a_retry_is_brought_forward_with_its_number(redis_client: Redis) -> None:
    """The attempt that comes hours before it was announced is found, and says how the delivery stands."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        (entry,) = await api.mint()
        await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "retry", next_ms=FAR_MS), cursor=entry)
        assert (await redeliver(api, subscriber, entry)).body["next_attempt_at"] <= datetime.now(UTC).isoformat()
        assert list(await waiting(api, subscriber)) == [str(Waiting(subscriber["id"], entry.place, 2))]
        await api.settle(subscriber["id"], attempt(subscriber, entry, 2, "delivered"))
        body = (await api.get(path_of(subscriber, entry))).body
        assert (body["status"], len(body["attempts"])) == ("delivered", 2)


async def test_what_is_queued_comes_by_itself(redis_client: Redis) -> None:
    """Accepted, and nothing is done; a disabled subscriber's waits, and the answer says so."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe(enabled=False)
        entry, dead = await api.mint(2)
        answer = await redeliver(api, subscriber, entry)
        assert (answer.status, answer.body["status"]) == (202, "pending")
        assert "enabled" in answer.body["note"]
        assert (await waiting(api, subscriber), await wakes(api)) == ({}, [])
        await api.settle(subscriber["id"], attempt(subscriber, dead, 1, "dead"))
        assert "enabled" in (await redeliver(api, subscriber, dead)).body["note"]
        assert list(await waiting(api, subscriber)) == [first(subscriber, dead)]


async def test_what_cannot_be_sent_again_is_refused_with_its_reason(redis_client: Redis) -> None:
    """A deleted subscriber, a trimmed event, a delivery that never was."""
    async with admin_api(redis_client) as api:
        subscriber, gone = await api.subscribe(), await api.subscribe()
        old, entry = await api.mint(1) + await api.mint(1)
        await api.settle(gone["id"], attempt(gone, entry, 1, "delivered"), cursor=entry)
        await dying(api, subscriber, old)
        assert (await api.call("DELETE", f"/v1/subscribers/{gone['id']}")).status == 204
        refused = await redeliver(api, gone, entry)
        assert (refused.status, "deleted" in refused.body["detail"]) == (409, True)
        await api.store.log.trim(old.place.ms + 1)
        missing = await redeliver(api, subscriber, old)
        assert (missing.status, "retention" in missing.body["detail"]) == (404, True)
        assert (await api.call("POST", f"{PATH}/dlv_x/redeliver")).status == 404
        assert (await api.call("POST", f"{PATH}/dlv_nobody_{entry.event_id[4:]}/redeliver")).status == 404
        assert await wakes(api) == []


async def test_all_dead_letters_that_a_filter_names_go_out_again(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches; whose, of which type, from when, by whose failure; a second call finds none left."""
    monkeypatch.setattr("relay.admin.redelivery.BATCH", 3)
    async with admin_api(redis_client) as api:
        one, other = await api.subscribe(), await api.subscribe()
        completed, cancelled = await api.mint(7), await api.mint(4, "lab.cancelled")
        entries = completed + cancelled
        for subscriber in (one, other):
            await api.settle(
                subscriber["id"], *(attempt(subscriber, entry, 1, "dead") for entry in entries), cursor=entries[-1]
            )
        assert await many(api, subscriber_id=one["id"], cause="relay") == 0
        assert await many(api, subscriber_id=one["id"], event_types=["*.cancelled"]) == 4
        assert sorted(await waiting(api, one)) == sorted(first(one, entry) for entry in cancelled)
        assert await many(api, subscriber_id=one["id"], cause="subscriber") == 7
        assert await many(api, subscriber_id=one["id"]) == 0
        assert await waiting(api, other) == {}
        since = datetime.fromtimestamp(cancelled[0].place.ms / 1000, UTC).isoformat()
        later = [entry for entry in entries if entry.place.ms >= cancelled[0].place.ms]
        assert await many(api, all=True, since=since) == len(later)
        assert await many(api, all=True, until=since) == len(entries) - len(later)
        assert len(await listed(api, status="pending")) == 22
        assert await listed(api, status="dead") == []


async def test_a_trimmed_dead_letter_stays_and_the_others_go(redis_client: Redis) -> None:
    """What cannot be sent is not counted and not lost from sight."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        (old,) = await api.mint()
        entries = await api.mint(3)
        dead = [attempt(subscriber, entry, 1, "dead") for entry in (old, *entries)]
        await api.settle(subscriber["id"], *dead, cursor=entries[-1])
        await api.store.log.trim(old.place.ms + 1)
        kept = [entry for entry in entries if entry.place.ms > old.place.ms]
        assert await many(api, subscriber_id=subscriber["id"]) == len(kept)
        assert len(await listed(api, status="dead")) == 4 - len(kept)


async def test_everything_that_waits_can_be_let_go_at_once(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is due is not counted, other subscribers' retries of the shard stay, and numbers are kept."""
    monkeypatch.setattr("relay.admin.redelivery.BATCH", 2)
    async with admin_api(redis_client) as api:
        subscribers = [await api.subscribe() for _ in range(3)]
        entries = await api.mint(5)
        for subscriber in subscribers:
            later = [attempt(subscriber, entry, 1, "retry", next_ms=FAR_MS) for entry in entries[1:]]
            due = attempt(subscriber, entries[0], 1, "retry", next_ms=entries[0].place.ms)
            await api.settle(subscriber["id"], due, *later, cursor=entries[-1])
        assert await many(api, subscriber_id=subscribers[0]["id"], status="pending") == 4
        assert sum(due == FAR_MS for due in (await waiting(api, subscribers[1])).values()) == 4
        assert await many(api, all=True, status="pending", event_types=["lab.cancelled"]) == 0
        assert await many(api, all=True, status="pending") == 8
        for subscriber in subscribers:
            names = [str(Waiting(subscriber["id"], entry.place, 2)) for entry in entries]
            assert sorted(await waiting(api, subscriber)) == sorted(names)
        assert await many(api, all=True, status="pending") == 0


async def test_one_call_brings_no_delivery_forward_twice(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails again while a long call goes on keeps its schedule: the call does not burn it."""
    monkeypatch.setattr("relay.admin.redelivery.BATCH", 1)
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        entries = await api.mint(3)
        for at, entry in enumerate(entries):
            failed = attempt(subscriber, entry, 1, "retry", next_ms=FAR_MS + at)
            await api.settle(subscriber["id"], failed, cursor=entry)
        read = api.store.deliveries.waiting_after

        async def fail_meanwhile(shards: Any, after: Any, count: int) -> Any:
            if after[1].endswith(f"{entries[0].place}|2"):
                again = attempt(subscriber, entries[0], 2, "retry", next_ms=FAR_MS + 9)
                await api.settle(subscriber["id"], again)
            return await read(shards, after, count)

        monkeypatch.setattr(api.store.deliveries, "waiting_after", fail_meanwhile)
        assert await many(api, subscriber_id=subscriber["id"], status="pending") == 3
        assert (await waiting(api, subscriber))[str(Waiting(subscriber["id"], entries[0].place, 3))] == FAR_MS + 9


async def test_all_that_was_delivered_can_be_sent_again(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once per call, older rounds left alone; and once more at the next call."""
    monkeypatch.setattr("relay.admin.pending.CHUNK", 4)
    monkeypatch.setattr("relay.admin.listing.CHUNK", 4)
    async with admin_api(redis_client) as api:
        one, other = await api.subscribe(), await api.subscribe()
        entries = await api.mint(9)
        for subscriber in (one, other):
            for entry in entries:
                await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "delivered"), cursor=entry)
        for _ in range(2):
            assert await many(api, subscriber_id=one["id"], status="delivered") == 9
            assert await many(api, subscriber_id=one["id"], status="delivered") == 0
            assert sorted(await waiting(api, one)) == sorted(first(one, entry) for entry in entries)
            await api.settle(one["id"], *(attempt(one, entry, 1, "delivered") for entry in entries))
        assert await waiting(api, other) == {}
        assert len(await listed(api)) == len(await listed(api, limit="3")) == 18


async def test_the_deliveries_of_one_event_go_out_again(redis_client: Redis) -> None:
    """Those in the status that is named, of every subscriber or of one."""
    async with admin_api(redis_client) as api:
        dead, delivered, waits = [await api.subscribe() for _ in range(3)]
        entry, other = await api.mint(2)
        for each in (entry, other):
            await api.settle(dead["id"], attempt(dead, each, 1, "dead"), cursor=each)
            await api.settle(delivered["id"], attempt(delivered, each, 1, "delivered"), cursor=each)
            await api.settle(waits["id"], attempt(waits, each, 1, "retry", next_ms=FAR_MS), cursor=each)
        assert await many(api, event_id=entry.event_id, subscriber_id=delivered["id"]) == 0
        assert await many(api, event_id=entry.event_id, cause="subscriber") == 1
        assert await many(api, event_id=entry.event_id, status="delivered") == 1
        assert await many(api, event_id=entry.event_id, status="pending", subscriber_id=waits["id"]) == 1
        assert list(await waiting(api, dead)) == [first(dead, entry)]
        assert list(await waiting(api, delivered)) == [first(delivered, entry)]
        assert (await waiting(api, waits))[str(Waiting(waits["id"], other.place, 2))] == FAR_MS


async def test_a_filter_must_say_whose(redis_client: Redis) -> None:
    """Nobody sends everything by leaving a field out; every fault is named."""
    async with admin_api(redis_client) as api:
        for wanted, pointer in (
            ({}, ""),
            ({"status": "dead"}, ""),
            ({"all": False}, "/all"),
            ({"all": True, "status": "cancelled"}, "/status"),
            ({"all": True, "event_types": ["lab.nothing"]}, "/event_types/0"),
            ({"all": True, "since": "yesterday"}, "/since"),
            ({"all": True, "since": "2026-01-01T00:00:00"}, "/since"),
            ({"all": True, "since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, ""),
            ({"all": True, "status": "pending", "cause": "relay"}, ""),
            ({"all": True, "subscriber": "sub_x"}, "/subscriber"),
        ):
            answer = await api.call("POST", f"{PATH}/redeliver", wanted)
            assert (answer.status, answer.pointers) == (422, [pointer]), wanted
        assert (await api.call("POST", f"{PATH}/redeliver", {"subscriber_id": "sub_nobody"})).status == 404
        assert (await api.call("POST", f"{PATH}/redeliver", {"event_id": "evt_unknown"})).status == 404
        assert await many(api, all=True) == await many(api, all=True, status="delivered") == 0
        assert await many(api, all=True, status="pending") == 0
