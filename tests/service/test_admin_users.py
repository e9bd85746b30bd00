"""DELETE /v1/users/{user_id}: what it answers, what is seen afterwards, and that the id is seen nowhere."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from relay.core.erasure import forgotten
from relay.core.events import named_id
from relay.core.retry import Verdict
from relay.store.keys import Keys, shard_of
from tests.service.admin_api import Api, admin_api, attempt
from tests.store.minting import event

GONE = "learner-to-forget"


@pytest.fixture
async def api(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """Provide the API on an empty store; no replica is to be waited for."""
    monkeypatch.setattr("relay.erasure.SETTLE_S", 0.0)
    async with admin_api(redis_client) as made:
        yield made
        assert GONE not in repr(made.logs)


async def erase(api: Api, user_id: str = GONE) -> dict[str, Any]:
    """Erase a learner."""
    answer = await api.call("DELETE", f"/v1/users/{quote(user_id, safe='')}")
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.body
    return body


def total(report: dict[str, Any], name: str) -> int:
    """One count over all sources."""
    return sum(one[name] for one in report["sources"])


async def test_it_tells_what_it_did_by_source(api: Api) -> None:
    """Events, retries, dead letters and kept answers are counted; a repeat finds nothing more."""
    subscriber = await api.subscribe()
    waiting, dead, other = [*await api.mint(2, user_id=GONE), *await api.mint(1, user_id="other")]
    await api.settle(
        subscriber["id"],
        attempt(subscriber, waiting, 1, Verdict.RETRY, next_ms=waiting.place.ms + 3_600_000),
        attempt(subscriber, dead, 1, Verdict.DEAD),
        attempt(subscriber, other, 1, Verdict.DEAD),
        cursor=other,
    )
    counts = {"source": "lod", "entities": 0, "events": 2, "retries": 1, "dead_letters": 1, "answers": 2}
    report = await erase(api)
    zeros = {name: 0 if isinstance(n, int) else "exams" for name, n in counts.items()}
    assert report["sources"] == [zeros, counts]
    kept = await api.pages("/v1/deliveries", status="dead")
    assert [one["event_id"] for one in kept] == [other.event_id]
    assert await api.pages("/v1/deliveries", status="pending") == []
    groups = await api.store.deliveries.attempts(shard_of(subscriber["id"]))
    assert [one.body for _, group in groups for one in group] == [b"", b"", b"oops \xff"]
    again = await erase(api)
    assert [total(again, name) for name in counts if name != "source"] == [0] * 5


async def test_a_learner_nobody_knows_is_answered_alike(api: Api) -> None:
    """Nothing tells whether there was such a learner before, but the counts."""
    await api.mint(1)
    report = await erase(api, "nobody")
    assert report.keys() == (await erase(api)).keys()
    assert [total(report, name) for name in ("entities", "events", "retries", "dead_letters", "answers")] == [0] * 5


async def test_the_feed_goes_on_past_what_was_erased(api: Api) -> None:
    """Its place is kept and says so; its id answers 410, and it can begin a page; nothing of the learner is shown."""
    (gone,), (kept,) = await api.mint(1, user_id=GONE), await api.mint(1)
    await erase(api)
    first, second = await api.pages("/v1/events")
    assert (first["data"]["event_id"], first["data"]["erased"], first["type"]) == (gone.event_id, True, "lab.completed")
    assert second["data"]["event_id"] == kept.event_id
    answer = await api.get(f"/v1/events/{gone.event_id}")
    assert (answer.status, answer.body["type"]) == (410, "/problems/erased")
    assert [one["data"]["event_id"] for one in await api.pages("/v1/events", after=gone.event_id)] == [kept.event_id]


async def test_what_was_erased_cannot_be_sent_again(api: Api) -> None:
    """Neither one by one nor in bulk; reconcile leaves it alone as well."""
    subscriber = await api.subscribe()
    (gone,) = await api.mint(1, user_id=GONE)
    await api.settle(subscriber["id"], attempt(subscriber, gone, 1, Verdict.DELIVERED), cursor=gone)
    await erase(api)
    delivery = f"dlv_{subscriber['id'].removeprefix('sub_')}_{gone.event_id.removeprefix('evt_')}"
    answer = await api.call("POST", f"/v1/deliveries/{delivery}/redeliver")
    assert (answer.status, answer.body["type"]) == (410, "/problems/erased")
    chosen = {"subscriber_id": subscriber["id"], "status": "delivered"}
    assert (await api.call("POST", "/v1/deliveries/redeliver", chosen)).body["count"] == 0
    sent = (await api.call("POST", f"/v1/subscribers/{subscriber['id']}/reconcile")).body
    assert (sent["entities"], sent["sent"]) == (0, 0)


async def test_subscribers_whose_filter_names_the_learner_are_listed(api: Api) -> None:
    """They are the operator's to change, so they stay as they are."""
    named = await api.subscribe(filter={"user_ids": ["x", GONE]})
    await api.subscribe(filter={"user_ids": ["x"]})
    assert (await erase(api))["subscribers_naming_user"] == [named["id"]]
    assert (await api.get(f"/v1/subscribers/{named['id']}")).body["filter"]["user_ids"] == ["x", GONE]


@pytest.mark.parametrize("user_id", ["a/b c", "ünï+code", "100%", "?x#y", 'quo"te\\', "٣", "x" * 3000])
async def test_an_id_may_be_any_text(api: Api, user_id: str) -> None:
    """It is compared as it is, whatever has to be escaped in a URL or in JSON."""
    await api.mint(1, user_id=user_id)
    await api.mint(1, user_id=user_id + "x")
    assert total(await erase(api, user_id), "events") == 1


async def test_the_audit_names_the_learner_by_pseudonym(api: Api) -> None:
    """Two lines tell who began to erase somebody, and that it was done; whoever has the key can tell who that was."""
    report = await erase(api)
    lines = [(one["action"], one["target"]) for one in api.logs if one["event"] == "admin.change"]
    assert lines == [("user.erase", report["pseudonym"]), ("user.erased", report["pseudonym"])]


async def test_snapshots_of_every_source_are_rewritten_even_if_it_is_configured_no_longer(
    api: Api, redis_client: Redis
) -> None:
    """A source that once was polled is found by what stands in the store."""
    snapshot = b"\x94\x03\xce\x69\x20\x00\x00\x90\x97\x03\xc0\xb1learner-to-forget\xc0\xc0\xc0\xc0"
    await redis_client.hset(Keys().state("former", "77"), "77", snapshot)
    await redis_client.hset(Keys().meta, "status:former", "{}")
    report = await erase(api)
    assert [(one["source"], one["entities"]) for one in report["sources"] if one["entities"]] == [("former", 1)]
    assert await api.store.snapshots.load("former") == {"77": forgotten(snapshot, report["pseudonym"])}


async def test_what_a_former_version_wrote_is_erased_from_the_log_itself(api: Api, redis_client: Redis) -> None:
    """Its payload stands in the log, which is written anew; the events around it keep their places."""
    for number, user in enumerate((GONE, "other")):
        one = event(number, user=user)
        fields: Any = {"i": one.id, "t": one.type, "s": "lod", "e": one.entity_id, "p": one.payload}
        place = await redis_client.xadd(Keys().log, fields)
        await redis_client.hset(Keys().index(one.id), one.id, place)
    (entry,) = await api.mint(1)
    before = await api.store.log.before(None, 10)
    assert total(await erase(api), "events") == 1
    assert await api.store.log.before(None, 10) == before[:2]
    assert await api.store.log.find(entry.event_id) == entry
    dump = await redis_client.dump(Keys().log)
    assert dump is not None
    assert GONE.encode() not in dump
    assert (await api.get(f"/v1/events/{named_id('test', 0, 'lab.completed')}")).status == 404


async def test_an_erasure_that_a_failover_could_undo_is_not_called_done(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as a replica of the store lags behind, the answer says to send it again; then it is done."""

    async def one() -> int:
        return 1

    await api.mint(1, user_id=GONE)
    monkeypatch.setattr("relay.erasure.REACH_MS", 1)
    with monkeypatch.context() as lagging:
        lagging.setattr(api.store.erasure, "replicas", one)
        answer = await api.call("DELETE", f"/v1/users/{GONE}")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert [one["action"] for one in api.logs if one["event"] == "admin.change"] == ["user.erase"]
    assert GONE not in repr(answer.body)
    assert total(await erase(api), "events") == 0


async def test_an_erasure_that_no_replica_has_is_not_called_done(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replica that events must be on is away: the next failover may go to it, with everything that it had."""
    monkeypatch.setattr("relay.erasure.REACH_MS", 1)
    async with admin_api(redis_client, wait_replicas=1) as api:
        assert (await api.call("DELETE", f"/v1/users/{GONE}")).status == 503
