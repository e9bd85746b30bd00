"""Entities: last known state, timeline with deliveries, and why there was no further event."""

import json
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.core.errors import FetchError
from relay.core.health import Health
from relay.core.lab import LabFamily
from relay.core.memory import Digest, Memory
from relay.core.model import Change, Observation
from relay.core.retry import Verdict
from relay.sources.base import Page
from relay.store import Store
from tests.service.admin_api import Api, admin_api, attempt
from tests.service.polling import Holder, PollRig, lab
from tests.service.upstreams import NOW

LAB = "/v1/entities/lod/7"


async def _told(api: Api, path: str = LAB, **query: str | int) -> dict[str, Any]:
    answer = await api.get(path, **query)
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.body
    return body


async def _lived(client: Redis) -> Holder:
    """A lab that was polled from its start to its end, and one that was there before."""
    rig = PollRig(client)
    holder = rig.holder()
    rig.source.show(lab(1))
    await holder.poll()
    private: dict[str, Any] = {"IpAddress": "192.0.2.1", "City": "Bern"}
    for status, more in ((2, {}), (3, {}), (50, {}), (4, {"End": 1_795_280_390, "ExamScore": 5})):
        rig.source.show(lab(1), lab(7, status, **private, **more))
        await holder.poll()
    return holder


async def test_an_entity_shows_its_state_and_its_events_in_order(redis_client: Redis) -> None:
    """State in the upstream's words; the items of the feed; nothing private."""
    await _lived(redis_client)
    async with admin_api(redis_client) as api:
        told = await _told(api)
        assert (told["source"], told["entity"]) == ("lod", {"kind": "lab_instance", "id": "7"})
        state = told["state"]
        assert (state["status"], state["open"], state["sequence"]) == ("Complete", False, 5)
        assert (state["fields"]["ExamScore"], state["fields"]["UserId"]) == (5, "u1")
        assert [(one["type"], one["data"]["sequence"]) for one in told["data"]] == [
            ("lab.started", 1),
            ("lab.engaged", 2),
            ("lab.submitted", 3),
            ("lab.scored", 4),
            ("lab.completed", 5),
        ]
        feed = (await api.get("/v1/events", entity_id="7")).body["data"]
        items = [{**one, "logged_at": None, "deliveries": None} for one in told["data"]]
        assert items == [{**one, "logged_at": None, "deliveries": None} for one in feed]
        assert "192.0.2.1" not in str(told)
        assert "Bern" not in str(told)


async def test_a_timeline_comes_in_pages(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event once, in order; a page that would cost too much is shorter and leads on."""
    async with admin_api(redis_client) as api:
        for _ in range(3):
            await api.subscribe()
        await _lived(redis_client)
        whole = (await _told(api))["data"]
        assert [len(one["deliveries"]) for one in whole] == [3] * 5
        assert await api.pages(LAB, limit=2) == whole
        monkeypatch.setattr("relay.admin.entities.LOOK_UPS", 6)
        assert [len((await _told(api, limit=limit))["data"]) for limit in (1, 2, 5)] == [1, 2, 2]
        monkeypatch.setattr("relay.admin.entities.LOOK_UPS", 0)
        assert len((await _told(api))["data"]) == 1
        assert await api.pages(LAB, limit=3) == whole


async def test_each_event_has_its_deliveries(redis_client: Redis) -> None:
    """By subscriber, with status, attempts and the next attempt; those whom it is not for are left out."""
    async with admin_api(redis_client) as api:
        eager, other, late = [await api.subscribe(event_types=types) for types in (["*"], ["session.*"], ["lab.*"])]
        (entry,) = await api.mint()
        await api.settle(eager["id"], attempt(eager, entry, 1, Verdict.DELIVERED), cursor=entry)
        soon = await api.store.deliveries.now_ms() + 60_000
        await api.settle(late["id"], attempt(late, entry, 1, Verdict.RETRY, next_ms=soon), cursor=entry)
        (event,) = (await _told(api, f"/v1/entities/lod/{entry.entity_id}"))["data"]
        shown = {one["subscriber_id"]: (one["status"], one["attempts"]) for one in event["deliveries"]}
        assert shown == {eager["id"]: ("delivered", 1), late["id"]: ("pending", 1)}
        assert other["id"] not in shown
        listed = (await api.get("/v1/deliveries", event_id=entry.event_id)).body["data"]
        assert sorted(event["deliveries"], key=str) == sorted(listed, key=str)


async def test_a_state_without_events_and_events_without_a_state(redis_client: Redis) -> None:
    """A baseline has no events; an entity that is kept no longer has a timeline; the relay itself has one too."""
    await _lived(redis_client)
    async with admin_api(redis_client) as api:
        told = await _told(api, "/v1/entities/lod/1")
        assert (told["data"], told["state"]["sequence"], told["state"]["open"]) == ([], 0, True)
        await redis_client.delete(*[key async for key in redis_client.scan_iter("{relay}:st:*")])
        told = await _told(api)
        assert (told["state"], len(told["data"]), told["entity"]["kind"]) == (None, 5, "lab_instance")
        assert (await api.get("/v1/entities/lod/1")).status == 404
        subscriber = await api.subscribe()
        await api.call("POST", f"/v1/subscribers/{subscriber['id']}/disable")
        own = await _told(api, f"/v1/entities/relay/{subscriber['id']}")
        assert [one["type"] for one in own["data"]] == ["relay.subscriber.disabled"]
        assert (own["entity"]["kind"], own["state"]) == ("subscriber", None)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/entities/lod/nobody",
        "/v1/entities/nowhere/7",
        "/v1/entities/lod/%00",
        "/v1/entities/lod/%ED%A0%80",
        "/v1/entities/lod/%2e%2e",
        "/v1/entities/lod/a%2Fb",
        "/v1/entities/lod/*",
        "/v1/entities/lod/" + "9" * 5000,
        "/v1/entities/%00/7",
        "/v1/entities/nowhere/7/explain",
        "/v1/entities/lod/%00/explain",
        "/v1/entities/lod/a%0Ab/explain",
    ],
)
async def test_what_cannot_be_an_entity_is_not_found(redis_client: Redis, path: str) -> None:
    """Ids are compared as text, and whatever stands there the store does not stumble."""
    async with admin_api(redis_client) as api:
        answer = await api.get(path)
        assert (answer.status, answer.body["type"]) == (404, "/problems/not-found")
        assert not [line for line in api.logs if line["event"] == "admin.failed"]


async def test_ids_with_any_printable_text_are_found(redis_client: Redis) -> None:
    """Slashes, percent signs, umlauts and emoji, each in its own place."""
    store = Store(redis_client)
    held = await store.leases.tick("t", "poll", ["lod"], (), ttl_ms=60_000)
    names = ["a/b", "50%", "ü", "🙂", "a b", "x?y#z"]
    (seen,) = Memory(LabFamily(), {}).digest([lab(1)], Observation("lod", NOW), silent=True).changes
    changes = [("lod", Change(name, b"", seen.new, ())) for name in names]
    await store.snapshots.mint("lod", held.tokens["source.lod"], 1, changes)
    async with admin_api(redis_client) as api:
        for name in names:
            quoted = "".join(f"%{byte:02X}" for byte in name.encode())
            assert (await _told(api, f"/v1/entities/lod/{quoted}"))["entity"]["id"] == name
            assert (await _told(api, f"/v1/entities/lod/{quoted}/explain"))["id"] == name


async def _explained(api: Api, entity_id: str = "7") -> tuple[dict[str, Any], list[str]]:
    told = await _told(api, f"/v1/entities/lod/{entity_id}/explain")
    return told, [one["reason"] for one in told["no_event"]]


async def test_it_says_why_there_was_no_further_event(redis_client: Redis) -> None:
    """Unchanged since its latest event; a baseline; never seen: each with when its source was last looked at."""
    await _lived(redis_client)
    async with admin_api(redis_client) as api:
        told, reasons = await _explained(api)
        assert reasons == ["unchanged"]
        assert (told["next_sequence"], told["last_event"]["type"], told["last_event"]["sequence"]) == (
            6,
            "lab.completed",
            5,
        )
        assert told["last_good_poll_at"] is not None
        assert told["state"] == (await _told(api))["state"]
        assert (await _explained(api, "1"))[1] == ["baseline"]
        told, reasons = await _explained(api, "99")
        assert (reasons, told["state"], told["next_sequence"], told["last_event"]) == (["never_seen"], None, 1, None)


async def test_it_says_that_nothing_could_be_seen(redis_client: Redis) -> None:
    """No poll yet; polls that fail; nobody that polls; an entity that no poll shows any more."""
    async with admin_api(redis_client) as api:
        assert (await _explained(api))[1] == ["not_polled_yet"]
        holder = await _lived(redis_client)
        api.clock.advance(3600)
        assert (await _explained(api))[1] == ["unchanged", "source_overdue"]
        rig = holder._rig
        rig.source.pages = [FetchError("timeout", "no complete answer within 30 s")]
        await holder.poll()
        told = await _told(api, LAB + "/explain")
        assert [one["reason"] for one in told["no_event"]] == ["unchanged", "source_failing"]
        assert "timeout" in told["no_event"][1]["detail"]
        rig.clock.advance(2 * 86_400)
        api.clock.at = rig.clock.at
        rig.source.show(lab(1))
        await holder.poll()
        assert (await _explained(api))[1] == ["unchanged", "not_shown_lately"]


async def test_it_says_that_a_row_of_it_was_kept_out(redis_client: Redis) -> None:
    """With the field and the shape of what stood there; of others it says that it cannot know."""
    holder = await _lived(redis_client)
    holder._rig.source.pages = [Page([lab(7, ExamScore="ann@example.org")])]
    await holder.poll()
    async with admin_api(redis_client) as api:
        told, reasons = await _explained(api)
        assert reasons == ["unchanged", "quarantined"]
        assert "ExamScore" in told["no_event"][1]["detail"]
        assert "text of 17 bytes" in told["no_event"][1]["detail"]
        assert "ann" not in json.dumps(told)
        assert (await _explained(api, "1"))[1] == ["baseline"]
        rows = [lab(number, ExamScore=name) for number in range(100, 120) for name in ("x", "y")]
        holder._rig.source.pages = [Page(rows)]
        await holder.poll()
        assert (await _explained(api, "1"))[1] == ["baseline", "quarantined"]


async def test_it_says_that_changes_are_held_back(redis_client: Redis) -> None:
    """Whether its own is among them is known of a few."""
    health = Health()
    health.succeed(NOW, Digest(), 200, 200)
    health.hold(NOW, [str(number) for number in range(150)])
    async with admin_api(redis_client) as api:
        held = await api.store.leases.tick("test", "poll", ["lod"], (), ttl_ms=60_000)
        await api.store.snapshots.mint("lod", held.tokens["source.lod"], 1, (), {"status:lod": health.status()})
        for entity_id, words in (("7", "one of them is its"), ("149", "one may be its")):
            told, reasons = await _explained(api, entity_id)
            assert reasons == ["never_seen", "held_back"]
            assert words in told["no_event"][1]["detail"]
