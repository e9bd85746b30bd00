"""Dead letters and held probes over HTTP: whose failure it was, what is left of trimmed events, what is pending."""

import asyncio
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from relay.core.log import Attempt, Entry
from relay.store.keys import shard_of
from tests.service.admin_api import Api, admin_api, attempt

PATH = "/v1/deliveries"
FAR_MS = 4_000_000_000_000
"""A due time that does not come during a test (2096)."""


def died(subscriber: dict[str, Any], entry: Entry, outcome: str = "status") -> Attempt:
    """The last attempt of a delivery."""
    return msgspec.structs.replace(attempt(subscriber, entry, 1, "dead"), outcome=outcome)


async def causes(api: Api, **query: str | int) -> dict[str, str | None]:
    """Cause by event of the dead letters."""
    return {one["event_id"]: one["cause"] for one in await api.pages(PATH, status="dead", **query)}


async def test_each_dead_letter_says_whose_failure_it_is(redis_client: Redis) -> None:
    """The proxy and the size limit are ours; whatever the subscriber answers, or does not, is its own."""
    outcomes = {"status": "subscriber", "timeout": "subscriber", "dns": "subscriber", "blocked": "subscriber"}
    outcomes |= {"proxy": "relay", "too_large": "relay"}
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        entries = await api.mint(len(outcomes))
        letters = [died(subscriber, entry, outcome) for entry, outcome in zip(entries, outcomes, strict=True)]
        await api.settle(subscriber["id"], *letters, cursor=entries[-1])
        expected = dict(zip([entry.event_id for entry in entries], outcomes.values(), strict=True))
        assert await causes(api) == await causes(api, limit=1) == expected
        assert {one["event_id"]: one["cause"] for one in await api.pages(PATH)} == expected
        (of_event,) = await api.pages(PATH, event_id=entries[4].event_id)
        assert (await api.get(f"{PATH}/{of_event['id']}")).body["cause"] == of_event["cause"] == "relay"
        for cause in ("relay", "subscriber"):
            wanted = {event_id: one for event_id, one in expected.items() if one == cause}
            assert await causes(api, cause=cause) == await causes(api, cause=cause, limit=1) == wanted


async def test_lists_are_filtered_by_type_cause_event_and_subscriber(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together too, in pages of any size; a page of rare ones may be short, and is not the last."""
    monkeypatch.setattr("relay.admin.listing.CHUNK", 3)
    monkeypatch.setattr("relay.admin.listing.SCAN", 6)
    async with admin_api(redis_client) as api:
        one, other = await api.subscribe(), await api.subscribe()
        completed, cancelled = await api.mint(20), await api.mint(3, "lab.cancelled")
        for subscriber in (one, other):
            letters = [died(subscriber, entry, "proxy") for entry in cancelled]
            letters += [died(subscriber, entry) for entry in completed]
            await api.settle(subscriber["id"], *letters, cursor=cancelled[-1])
        for limit in (1, 2, 50):
            rare = await api.pages(PATH, status="dead", event_type="*.cancelled", limit=limit)
            assert len(rare) == 6
            assert {entry["event_type"] for entry in rare} == {"lab.cancelled"}
            mine = await causes(api, subscriber_id=one["id"], cause="relay", event_type="lab.*", limit=limit)
            assert mine == {entry.event_id: "relay" for entry in cancelled}
        assert await causes(api, event_id=cancelled[0].event_id, cause="subscriber") == {}
        assert len(await api.pages(PATH, event_id=cancelled[0].event_id, cause="relay", status="dead")) == 2
        assert len(await api.pages(PATH, event_type="lab.cancelled", subscriber_id=other["id"])) == 3
        waiting = await api.mint(2, "lab.cancelled")
        assert len(await api.pages(PATH, event_type="lab.cancelled", status="pending")) == 2 * len(waiting)
        assert (await api.get(PATH, cause="relay")).pointers == [""]
        assert (await api.get(PATH, status="pending", cause="relay")).status == 422
        assert (await api.get(PATH, status="dead", cause="nobody")).pointers == ["/cause"]
        assert (await api.get(PATH, event_type="lab.nothing")).pointers == ["/event_type"]


async def test_dead_letters_of_trimmed_events_are_listed(redis_client: Redis) -> None:
    """By their last attempt if it is on record, else by their place alone: none is left out."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        attempted, outlived = await api.mint(2)
        await api.settle(subscriber["id"], attempt(subscriber, outlived, 1, "retry", next_ms=FAR_MS), cursor=outlived)
        await api.settle(subscriber["id"], died(subscriber, attempted))
        # As the dispatcher does when a retry is due whose event is gone: a dead letter without an attempt.
        key = f"{{relay}}:dl:{subscriber['id']}"
        await api.store.client.zadd(key, {str(outlived.place): await api.store.deliveries.now_ms() + 1})
        await api.store.log.trim(outlived.place.ms + 1)
        unknown, known = await api.pages(PATH, status="dead")
        assert (unknown["id"], unknown["event_id"], unknown["event_type"]) == (None, None, None)
        assert (unknown["cause"], unknown["attempts"]) == ("relay", None)
        assert unknown["event_at"].endswith("Z")
        assert (known["event_id"], known["cause"], known["attempts"]) == (attempted.event_id, "subscriber", 1)
        assert [one["event_id"] for one in await api.pages(PATH, status="dead", cause="relay")] == [None]
        by_type = await api.pages(PATH, status="dead", event_type="lab.*")
        assert [one["event_id"] for one in by_type] == [attempted.event_id]
        await api.store.client.xtrim(f"{{relay}}:att:{_shard(subscriber)}", maxlen=0)
        assert [one["cause"] for one in await api.pages(PATH, status="dead")] == ["relay", None]


async def test_a_held_probe_is_pending(redis_client: Redis) -> None:
    """It stays first in the queue, has no attempt that counts, and each probe is on record in order."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        first, second = await api.mint(2)
        for _ in range(2):
            await api.settle(subscriber["id"], attempt(subscriber, first, 1, "held"))
        for query in ({}, {"status": "pending"}, {"event_id": first.event_id}):
            found = [(one["event_id"], one["status"], one["attempts"]) for one in await api.pages(PATH, **query)]
            assert found[0] == (first.event_id, "pending", 0)
            assert found[1:] == ([] if "event_id" in query else [(second.event_id, "pending", 0)])
        path = f"{PATH}/dlv_{subscriber['id'][4:]}_{first.event_id[4:]}"
        assert [one["verdict"] for one in (await api.get(path)).body["attempts"]] == ["held", "held"]
        assert (await api.call("POST", f"{path}/redeliver")).body["status"] == "pending"
        await api.settle(subscriber["id"], attempt(subscriber, first, 1, "delivered"), cursor=first)
        body = (await api.get(path)).body
        assert (body["status"], [one["verdict"] for one in body["attempts"]]) == (
            "delivered",
            ["held"] * 2 + ["delivered"],
        )
        found = [(one["event_id"], one["status"], one["attempts"]) for one in await api.pages(PATH)]
        assert found == [(second.event_id, "pending", 0), (first.event_id, "delivered", 1)]


async def test_a_held_retry_is_pending_with_the_attempts_that_count(redis_client: Redis) -> None:
    """A 410 holds a retry: it waits under the same number, and is listed once."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        (entry,) = await api.mint()
        await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "retry", next_ms=entry.place.ms), cursor=entry)
        await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "held"))  # leaves what waits for attempt 2
        (listed,) = await api.pages(PATH)
        assert (listed["status"], listed["attempts"]) == ("pending", 1)
        shown = (await api.get(f"{PATH}/{listed['id']}")).body
        assert (shown["status"], shown["next_attempt_at"]) == ("pending", listed["next_attempt_at"])


async def test_a_delivery_with_several_failed_attempts_is_listed_once(redis_client: Redis) -> None:
    """By its latest attempt only, however many retries there were."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        (entry,) = await api.mint()
        for number in range(1, 5):
            failed = attempt(subscriber, entry, number, "retry", next_ms=entry.place.ms)
            await api.settle(subscriber["id"], failed, cursor=entry)
        assert [one["attempts"] for one in await api.pages(PATH)] == [4]


async def test_what_was_delivered_before_the_record_begins_is_told_as_delivered(redis_client: Redis) -> None:
    """Attempts are kept for a shorter time than events: a delivery does not vanish with its attempts."""
    async with admin_api(redis_client) as api:
        api.clock.advance(-400 * 86_400)  # registered before the events were minted
        subscriber = await api.subscribe()
        (entry,) = await api.mint()
        await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "delivered"), cursor=entry)
        await asyncio.sleep(0.002)  # the record begins in a later millisecond
        await api.store.client.xadd(f"{{relay}}:att:{_shard(subscriber)}", {"a": b"\x90"})
        await api.store.client.xtrim(f"{{relay}}:att:{_shard(subscriber)}", maxlen=1, approximate=False)
        path = f"{PATH}/dlv_{subscriber['id'][4:]}_{entry.event_id[4:]}"
        body = (await api.get(path)).body
        assert (body["status"], body["attempts"], body["attempts_complete"]) == ("delivered", [], False)
        assert (await api.call("POST", f"{path}/redeliver")).body["status"] == "pending"


def _shard(subscriber: dict[str, Any]) -> int:
    return shard_of(subscriber["id"])


async def test_a_dead_letter_says_when_it_was_given_up(redis_client: Redis) -> None:
    """The list is in the order that it shows; the others have no such time."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        entries = await api.mint(3)
        for one in (entries[1], entries[0]):
            await api.settle(subscriber["id"], attempt(subscriber, one, 1, "dead"), cursor=entries[1])
            await asyncio.sleep(0.002)  # the store's clock tells milliseconds
        letters = await api.pages(PATH, status="dead")
        assert [one["event_id"] for one in letters] == [entries[0].event_id, entries[1].event_id]
        died = [one["died_at"] for one in letters]
        assert died == sorted(died, reverse=True)
        assert all(one["event_at"] <= one["died_at"] for one in letters)
        assert [(await api.get(f"{PATH}/{one['id']}")).body["died_at"] for one in letters] == died
        mixed = {one["event_id"]: one["died_at"] for one in await api.pages(PATH)}
        assert mixed[entries[2].event_id] is None
        assert None not in (mixed[entries[0].event_id], mixed[entries[1].event_id])
