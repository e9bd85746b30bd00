"""Explaining an event: how it was seen, who gets it, which condition said no, and what a delivery waits for."""

from typing import Any

import pytest
from redis.asyncio import Redis

from relay.admin.attempt_schema import moment
from relay.core.catalogue import known_types
from relay.core.log import Entry
from relay.core.retry import Verdict
from relay.core.rules import RULES, rule_for
from tests.service.admin_api import Api, admin_api, attempt

HOUR_MS = 3_600_000


async def _explain(api: Api, entry: Entry, **query: str | int) -> dict[str, Any]:
    answer = await api.get(f"/v1/events/{entry.event_id}/explain", **query)
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.body
    return body


async def _of(api: Api, entry: Entry, subscriber: dict[str, Any]) -> dict[str, Any]:
    (told,) = (await _explain(api, entry, subscriber_id=subscriber["id"]))["data"]
    assert told["subscriber_id"] == subscriber["id"]
    one: dict[str, Any] = told
    return one


async def test_it_says_how_an_event_was_seen(redis_client: Redis) -> None:
    """Source, bracket, interval, sequence and the rule; a first sight has no bracket."""
    async with admin_api(redis_client) as api:
        (entry,) = await api.mint()
        told = await _explain(api, entry)
        assert (told["event_id"], told["type"], told["source"]) == (entry.event_id, "lab.completed", "lod")
        assert told["entity"] == {"kind": "lab_instance", "id": entry.entity_id}
        assert (told["sequence"], told["transition"]) == (1, {"from": None, "to": "Complete"})
        observed = told["observed"]
        assert (observed["after"], observed["within_s"], observed["poll_interval_s"]) == (None, None, 30)
        assert (observed["first_seen"], observed["backfill"]) == (True, False)
        assert told["rule"].endswith("CompletionStatus became 4 (Complete)")
        assert (told["data"], told["next_cursor"]) == ([], None)


def test_every_type_has_a_rule() -> None:
    """No more and no fewer than there are types; a first sight says that it is one."""
    assert set(RULES) == set(known_types())
    assert rule_for("lab.started", first_seen=True) == RULES["lab.started"]
    assert (
        rule_for("lab.completed", first_seen=True)
        != RULES["lab.completed"]
        == rule_for("lab.completed", first_seen=False)
    )


@pytest.mark.parametrize(
    ("wishes", "refused"),
    [
        ({"event_types": ["session.*"]}, ("event_types", ["session.*"], "lab.completed")),
        ({"filter": {"sources": ["exams"]}}, ("sources", ["exams"], "lod")),
        ({"filter": {"user_ids": ["1", "2"]}}, ("user_ids", ["1", "2"], "555")),
        ({"filter": {"class_ids": ["c"]}}, ("class_ids", ["c"], None)),
        ({"filter": {"lab_profile_ids": ["7"]}}, ("lab_profile_ids", ["7"], "5522")),
        ({"filter": {"from": ["Incomplete"]}}, ("from", ["Incomplete"], None)),
        ({"filter": {"sources": ["lod"], "to": ["Cancelled"]}}, ("to", ["Cancelled"], "Complete")),
    ],
)
async def test_the_condition_that_said_no_is_named(
    redis_client: Redis, wishes: dict[str, Any], refused: tuple[str, list[str], str | None]
) -> None:
    """With what the subscriber asks for and what the event has."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe(**wishes)
        (entry,) = await api.mint()
        told = await _of(api, entry, subscriber)
        condition, allowed, value = refused
        assert told["refused_by"] == {"condition": condition, "allowed": allowed, "value": value}
        assert (told["verdict"], told["delivery"], told["waits"]) == ("refused", None, [])


async def test_a_subscriber_gets_nothing_from_before_its_time(redis_client: Redis) -> None:
    """`registered_later`, though it would match."""
    async with admin_api(redis_client) as api:
        (entry,) = await api.mint()
        api.clock.at = api.clock.at.fromtimestamp(entry.place.ms / 1000 + 1, api.clock.at.tzinfo)
        late = await api.subscribe()
        assert (await _of(api, entry, late))["verdict"] == "registered_later"


@pytest.mark.parametrize("limit", [1, 5, 50])
async def test_a_search_that_was_given_up_concludes_nothing(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """A page ends before a subscriber for whom nothing was found in time: `delivered` is never made of that."""
    async with admin_api(redis_client) as api:
        early = [await api.subscribe() for _ in range(8)]
        (entry,) = await api.mint()
        for _ in range(5):
            for one in early:
                await api.settle(one["id"], attempt(one, entry, 1, Verdict.RETRY, next_ms=entry.place.ms + HOUR_MS))
        api.clock.at = api.clock.at.fromtimestamp(entry.place.ms / 1000 + 5, api.clock.at.tzinfo)
        late = {(await api.subscribe(enabled=number % 2 == 0))["id"] for number in range(30)}
        monkeypatch.setattr("relay.admin.attempt_walk.Budget.__init__.__defaults__", (12,))
        told = await api.pages(f"/v1/events/{entry.event_id}/explain", limit=limit)
        assert {one["subscriber_id"]: one["verdict"] for one in told} == {
            **{one["id"]: "delivery" for one in early},
            **dict.fromkeys(late, "registered_later"),
        }
        assert {one["delivery"]["status"] for one in told if one["delivery"]} == {"pending"}
        assert len(told) == len(early) + len(late)


async def test_a_filter_that_was_widened_later_is_told_apart(redis_client: Redis) -> None:
    """It would match now, and there is no delivery: it did not when the event passed."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe(event_types=["session.*"])
        (entry,) = await api.mint()
        await api.settle(subscriber["id"], cursor=entry)
        await api.call("PATCH", f"/v1/subscribers/{subscriber['id']}", {"event_types": ["*"]})
        assert (await _of(api, entry, subscriber))["verdict"] == "passed"


async def test_a_delivery_that_was_made_is_told_though_the_filter_has_changed(redis_client: Redis) -> None:
    """What happened is not hidden by what would happen now."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        (entry,) = await api.mint()
        await api.settle(subscriber["id"], attempt(subscriber, entry, 1, Verdict.DELIVERED), cursor=entry)
        told = await _of(api, entry, subscriber)
        assert (told["verdict"], told["delivery"]["status"]) == ("delivery", "delivered")
        assert [one["attempt_no"] for one in told["delivery"]["attempts"]] == [1]
        api.clock.at = api.clock.at.fromtimestamp(entry.place.ms / 1000 + 1, api.clock.at.tzinfo)
        await api.call("PATCH", f"/v1/subscribers/{subscriber['id']}", {"event_types": ["session.*"]})
        told = await _of(api, entry, subscriber)
        assert (told["verdict"], told["refused_by"]["condition"]) == ("delivery", "event_types")


async def test_it_says_what_a_delivery_waits_for(redis_client: Redis) -> None:
    """Behind others, for a retry, for a due one's turn, for an attempt under way, for being enabled again."""
    async with admin_api(redis_client) as api:
        queued, failed, due, slow, off = [await api.subscribe(description=text) for text in "abcde"]
        entries = await api.mint(4)
        third, last = entries[2], entries[3]
        soon = await api.store.deliveries.now_ms() + HOUR_MS
        await api.settle(failed["id"], attempt(failed, last, 1, Verdict.RETRY, next_ms=soon), cursor=last)
        await api.settle(due["id"], attempt(due, last, 1, Verdict.RETRY, next_ms=1), cursor=last)
        await api.settle(slow["id"], cursor=last, parked=last)
        await api.call("POST", f"/v1/subscribers/{off['id']}/disable")
        waits = {one["id"]: (await _of(api, last, one))["waits"] for one in (failed, due, slow, off)}
        assert [one["reason"] for one in waits[failed["id"]]] == ["retry"]
        assert waits[failed["id"]][0]["until"] == (await _of(api, last, failed))["delivery"]["next_attempt_at"]
        assert [one["reason"] for one in waits[due["id"]]] == ["due"]
        assert [one["reason"] for one in waits[slow["id"]]] == ["under_way"]
        assert [one["reason"] for one in waits[off["id"]]] == ["disabled"]
        (behind,) = (await _of(api, third, queued))["waits"]
        assert (behind["reason"], behind["detail"].split(" ")[0], behind["until"]) == ("queued", "2", None)


async def test_it_says_that_a_subscriber_rests_until_when_and_what_ends_it(redis_client: Redis) -> None:
    """Its latest attempts failed, one after the other; a single success would have ended that."""
    async with admin_api(redis_client) as api:
        ailing, well = await api.subscribe(), await api.subscribe()
        entries = await api.mint(5)
        for one, verdict in ((ailing, Verdict.DEAD), (well, Verdict.DELIVERED)):
            verdicts = [Verdict.DEAD, Verdict.DEAD, verdict]
            results = [attempt(one, entry, 1, v) for entry, v in zip(entries, verdicts, strict=False)]
            until_ms = entries[0].place.ms + HOUR_MS if one is ailing else None
            await api.settle(one["id"], *results, cursor=entries[2], resting_until_ms=until_ms)
        resting, queued = (await _of(api, entries[4], ailing))["waits"]
        assert (resting["reason"], queued["reason"]) == ("resting", "queued")
        assert resting["until"] == moment(entries[0].place.ms + HOUR_MS)
        assert "latest 3 attempts to it failed" in resting["detail"]
        assert "/enable" in resting["detail"]
        assert [one["reason"] for one in (await _of(api, entries[4], well))["waits"]] == ["queued"]


async def test_it_says_that_nobody_delivers(redis_client: Redis) -> None:
    """No replica holds the shard: the lease has ended, or nobody has the role."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        (entry,) = await api.mint()
        await redis_client.delete("{relay}:lease")
        assert [one["reason"] for one in (await _of(api, entry, subscriber))["waits"]] == ["no_replica", "queued"]


async def test_a_dead_letter_says_whose_failure_it_is(redis_client: Redis) -> None:
    """Status, cause and the attempts; it waits for nothing."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        (entry,) = await api.mint()
        await api.settle(subscriber["id"], attempt(subscriber, entry, 1, Verdict.DEAD), cursor=entry)
        told = await _of(api, entry, subscriber)
        assert (told["delivery"]["status"], told["delivery"]["cause"], told["waits"]) == ("dead", "subscriber", [])


async def test_many_subscribers_come_in_pages(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """By id, each once; a page that would cost too much is shorter and leads on."""
    async with admin_api(redis_client) as api:
        ids = sorted([(await api.subscribe())["id"] for _ in range(7)])
        (entry,) = await api.mint()
        path = f"/v1/events/{entry.event_id}/explain"
        assert [one["subscriber_id"] for one in await api.pages(path, limit=3)] == ids
        assert (await _explain(api, entry))["next_cursor"] is None
        monkeypatch.setattr("relay.admin.explain.Budget", type("Broke", (), {"groups": 0}))
        first = await _explain(api, entry)
        assert [one["subscriber_id"] for one in first["data"]] == ids[:1]
        assert [one["subscriber_id"] for one in await api.pages(path, limit=3)] == ids


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/events/evt_unknown/explain", 404),
        ("/v1/events/%00/explain", 404),
        ("/v1/events/%ED%A0%80/explain", 404),
        ("/v1/events/x%2Fy/explain", 404),
        ("/v1/events/{}/explain?subscriber_id=sub_nobody", 404),
        ("/v1/events/{}/explain?cursor=xyz", 422),
        ("/v1/events/{}/explain?limit=0", 422),
    ],
)
async def test_what_makes_no_sense_is_refused(redis_client: Redis, path: str, status: int) -> None:
    """Whatever stands in the path."""
    async with admin_api(redis_client) as api:
        (entry,) = await api.mint()
        assert (await api.get(path.format(entry.event_id))).status == status
