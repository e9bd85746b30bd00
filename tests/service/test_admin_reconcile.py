"""Reconcile over HTTP: of every entity the latest event, and only if it was not acknowledged."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.core.log import Entry, Waiting
from relay.store.keys import shard_of
from tests.service.admin_api import Answer, Api, admin_api, attempt
from tests.store.minting import change, event

FAR_MS = 4_000_000_000_000
"""A due time that does not come during a test (2096)."""
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Log:
    """Mints events of entities that have several."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._numbers: dict[str, int] = {}
        self._count = 0

    async def mint(self, entity: str, event_type: str = "lab.completed", *, user: str = "u1") -> Entry:
        """The next event of an entity."""
        self._count += 1
        number = self._numbers[entity] = self._numbers.get(entity, 0) + 1
        one = event(self._count, event_type, entity_id=entity, user=user)
        before = f"{number - 1}".encode() if number > 1 else b""
        held = await self._api.store.leases.tick("minter", "poll", ["lod"], (), ttl_ms=600_000)
        token = held.tokens.get("source.lod") or self._api._tokens["source.lod"]
        await self._api.store.snapshots.mint("lod", token, 1, [("lod", change(entity, before, b"%d" % number, one))])
        entry = await self._api.store.log.find(one.id)
        assert entry is not None
        return entry


async def reconcile(api: Api, subscriber: dict[str, Any]) -> Answer:
    """Ask for it."""
    return await api.call("POST", f"/v1/subscribers/{subscriber['id']}/reconcile")


def counts(answer: Answer) -> dict[str, int]:
    """The two figures; what they are made of adds up."""
    body: dict[str, Any] = dict(answer.body)
    assert sum(body.pop("sent_by_reason").values()) == body["sent"]
    return body


async def due(api: Api, subscriber: dict[str, Any]) -> list[str]:
    """Names of the retries that are due."""
    listed = await api.store.deliveries.waiting(shard_of(subscriber["id"]), 0, 1000)
    return sorted(str(one) for one, at in listed if one.subscriber_id == subscriber["id"] and at < FAR_MS)


def first(subscriber: dict[str, Any], *entries: Entry) -> list[str]:
    """Names of first attempts among the retries."""
    return sorted(str(Waiting(subscriber["id"], entry.place, 1)) for entry in entries)


async def test_only_the_latest_event_of_each_entity_is_sent(redis_client: Redis) -> None:
    """Dead ones go again, waiting ones at once; what is delivered is left, what is queued comes; older ones stay."""
    async with admin_api(redis_client) as api:
        api.clock.at = datetime.now(UTC) - DAY
        log, subscriber = Log(api), await api.subscribe()
        old = await log.mint("dead", "lab.started")
        dead, waits = await log.mint("dead"), await log.mint("waits")
        delivered, held = await log.mint("delivered"), await log.mint("queued")
        settled = [attempt(subscriber, old, 1, "dead"), attempt(subscriber, dead, 1, "dead")]
        settled += [attempt(subscriber, waits, 1, "retry", next_ms=FAR_MS), attempt(subscriber, held, 1, "held")]
        settled += [attempt(subscriber, delivered, 1, "delivered")]
        await api.settle(subscriber["id"], *settled, cursor=delivered)
        answer = await reconcile(api, subscriber)
        assert (answer.status, counts(answer)) == (202, {"entities": 4, "sent": 2})
        reasons = {"dead": 1, "put_off": 1, "before_registration": 0, "unacknowledged": 0}
        assert answer.body["sent_by_reason"] == reasons
        waited = str(Waiting(subscriber["id"], waits.place, 2))
        assert await due(api, subscriber) == sorted([*first(subscriber, dead), waited])
        assert [one["event_id"] for one in await api.pages("/v1/deliveries", status="dead")] == [old.event_id]
        assert counts(await reconcile(api, subscriber)) == {"entities": 4, "sent": 0}


async def test_a_new_subscriber_gets_the_last_state_of_everything(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events from before its registration were never deliveries: each entity's latest is sent, once."""
    monkeypatch.setattr("relay.admin.reconcile._CHUNK", 3)
    monkeypatch.setattr("relay.admin.reconcile._DOUBTFUL", 4)
    monkeypatch.setattr("relay.arrears.GROUPS", 2)
    async with admin_api(redis_client) as api:
        log = Log(api)
        for number in range(10):
            await log.mint(f"e{number}", "lab.started")
        latest = [await log.mint(f"e{number}") for number in range(10)]
        api.clock.at = datetime.now(UTC) + HOUR
        subscriber = await api.subscribe()
        answer = await reconcile(api, subscriber)
        assert counts(answer) == {"entities": 10, "sent": 10}
        assert answer.body["sent_by_reason"]["before_registration"] == 10
        assert await due(api, subscriber) == first(subscriber, *latest)
        for entry in latest:
            await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "delivered"))
        assert counts(await reconcile(api, subscriber)) == {"entities": 10, "sent": 0}
        listed = await api.pages("/v1/deliveries", limit=3)
        assert sorted(one["event_id"] for one in listed) == sorted(one.event_id for one in latest)
        assert {one["status"] for one in listed} == {"delivered"}


async def test_only_what_the_subscriber_wants_now_is_sent(redis_client: Redis) -> None:
    """An entity whose latest event does not match is up to date; the relay's own events are no entity's state."""
    async with admin_api(redis_client) as api:
        log = Log(api)
        wanted = await log.mint("a", user="555")
        await log.mint("b", user="555")
        await log.mint("b", "lab.cancelled", user="555")
        await log.mint("c", user="556")
        await log.mint("lod", "relay.source.degraded", user="555")
        types = ["lab.completed", "relay.*"]
        api.clock.at = datetime.now(UTC)
        subscriber = await api.subscribe(event_types=types, filter={"user_ids": ["555"]})
        assert counts(await reconcile(api, subscriber)) == {"entities": 1, "sent": 1}
        assert await due(api, subscriber) == first(subscriber, wanted)


async def test_a_wider_filter_is_made_up_for_and_what_was_delivered_is_not_repeated(redis_client: Redis) -> None:
    """After a change an attempt on record decides what was acknowledged, whenever it was made."""
    async with admin_api(redis_client) as api:
        api.clock.at = datetime.now(UTC) - DAY
        log, subscriber = Log(api), await api.subscribe(event_types=["lab.completed"])
        done, missed, late = await log.mint("a"), await log.mint("b", "lab.cancelled"), await log.mint("c")
        await api.settle(subscriber["id"], attempt(subscriber, done, 1, "delivered"), cursor=late)
        await api.settle(subscriber["id"], attempt(subscriber, late, 1, "retry", next_ms=late.place.ms))
        await api.settle(subscriber["id"], attempt(subscriber, late, 2, "delivered"))
        api.clock.at = datetime.now(UTC)
        changed = await api.call("PATCH", f"/v1/subscribers/{subscriber['id']}", {"event_types": ["lab.*"]})
        assert changed.status == 200
        assert counts(await reconcile(api, subscriber)) == {"entities": 3, "sent": 1}
        assert await due(api, subscriber) == first(subscriber, missed)


async def test_what_was_settled_long_ago_counts_as_acknowledged(redis_client: Redis) -> None:
    """The record of its attempts has expired, and it neither waits nor is dead: it was delivered."""
    async with admin_api(redis_client) as api:
        api.clock.at = datetime.now(UTC) - DAY
        log, subscriber = Log(api), await api.subscribe()
        entry = await log.mint("a")
        await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "delivered"), cursor=entry)
        key = f"{{relay}}:att:{shard_of(subscriber['id'])}"
        await api.store.client.xtrim(key, maxlen=0)
        api.clock.at = datetime.now(UTC)
        await api.call("PATCH", f"/v1/subscribers/{subscriber['id']}", {"description": "changed"})
        assert counts(await reconcile(api, subscriber)) == {"entities": 1, "sent": 0}


async def test_one_reconcile_at_a_time(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one is refused while the first goes on; an unknown subscriber has none; it is on the audit record."""
    async with admin_api(redis_client) as api:
        subscriber, answers = await api.subscribe(), list[Answer]()
        await Log(api).mint("a")
        read = api.store.log.before

        async def ask_meanwhile(*arguments: Any) -> Any:
            if not answers:
                answers.append(await reconcile(api, subscriber))
            return await read(*arguments)

        monkeypatch.setattr(api.store.log, "before", ask_meanwhile)
        assert (await reconcile(api, subscriber)).status == 202
        assert [one.status for one in answers] == [409]
        assert (await reconcile(api, subscriber)).status == 202
        assert (await reconcile(api, {"id": "sub_nobody"})).status == 404
        assert [one["action"] for one in api.logs if one["event"] == "admin.change"][-1] == "subscriber.reconcile"


async def test_what_came_after_the_last_change_needs_no_attempt_on_record(redis_client: Redis) -> None:
    """The cursor has passed it, it neither waits nor is dead: nothing is searched, and nothing is sent."""
    async with admin_api(redis_client) as api:
        api.clock.at = datetime.now(UTC) - DAY
        log, subscriber = Log(api), await api.subscribe()
        entry = await log.mint("a")
        await api.settle(subscriber["id"], cursor=entry)
        assert counts(await reconcile(api, subscriber)) == {"entities": 1, "sent": 0}
