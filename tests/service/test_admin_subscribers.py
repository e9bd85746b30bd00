"""Subscribers over HTTP: what may be registered, how it changes, what is never shown."""

import asyncio
import re
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.core.keyring import Keyring
from relay.core.signing import secret_key
from relay.store import Store
from relay.store.registry import ChangedMeanwhileError
from tests.service.admin_api import TOKEN, URL, admin_api

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PATH = "/v1/subscribers"


async def test_a_registration_answers_with_defaults_and_the_secret_once(redis_client: Redis) -> None:
    """201, Location, the whole subscriber; from then on the secret is shown nowhere and stands sealed in the store."""
    async with admin_api(redis_client) as api:
        answer = await api.call("POST", PATH, {"url": "http://127.0.0.1:9000"})
        body = dict(answer.body)
        secret = body.pop("secret")
        assert (answer.status, answer.headers["Location"]) == (201, f"{PATH}/{body['id']}")
        assert re.fullmatch("sub_[0-9a-z]{22}", body["id"])
        assert len(secret_key(secret)) == 32
        assert body == {
            "id": body["id"],
            "url": "http://127.0.0.1:9000/",
            "description": "",
            "enabled": True,
            "event_types": ["*"],
            "filter": {
                "sources": [],
                "user_ids": [],
                "class_ids": [],
                "lab_profile_ids": [],
                "activity_ids": [],
                "from": [],
                "to": [],
            },
            "headers": {},
            "format": "standard",
            "signature": "v1",
            "public_key": None,
            "previous_public_keys": [],
            "previous_secrets": [],
            "ordering": "none",
            "max_in_flight": 16,
            "rate_per_s": None,
            "timeout_s": 15,
            "retry_schedule_s": None,
            "include_pii": False,
            "state": {"status": "ok", "reason": None, "failing_since": None, "failures": 0, "resting_until": None},
            "created_at": "2026-11-21T17:00:30.250Z",
            "updated_at": "2026-11-21T17:00:30.250Z",
        }
        assert (await api.get(f"{PATH}/{body['id']}")).body == body
        assert (await api.get(PATH)).body == {"data": [body], "next_cursor": None}
        stored = await Store(redis_client).registry.get(body["id"])
        assert stored is not None
        assert secret not in repr(stored)
        assert Keyring([b"k" * 32]).open(stored.secrets[0].sealed, body["id"]) == secret


async def test_a_secret_may_be_brought_along(redis_client: Redis) -> None:
    """A valid secret is kept as it is."""
    async with admin_api(redis_client) as api:
        assert (await api.subscribe(secret=SECRET))["secret"] == SECRET


INVALID: list[tuple[dict[str, Any], str, str]] = [
    ({"url": ""}, "/url", "is required"),
    ({"url": None}, "/url", "must be text"),
    ({"url": "https://10.0.0.1/"}, "/url", "RELAY_EGRESS__ALLOW_CIDRS"),
    ({"url": "ftp://example.org"}, "/url", "https://"),
    ({"secret": "whsec_c2hvcnQ="}, "/secret", "24 to 64 bytes"),
    ({"event_types": ["lab.compleeted"]}, "/event_types/0", "lab.completed"),
    ({"event_types": []}, "/event_types", "must not be empty"),
    ({"event_types": ["*"] * 51}, "/event_types", "at most 50"),
    ({"event_types": ["zzz"]}, "/event_types/0", "GET /v1/event-types"),
    ({"filter": {"form": ["x"]}}, "/filter/form", "did you mean from? there are: sources, user_ids"),
    ({"filter": {"source": ["lod"]}}, "/filter/source", "did you mean sources?"),
    ({"filter": {"to": ["Completed!"]}}, "/filter/to/0", "did you mean Completed?"),
    ({"filter": {"from": ["incomplete"]}}, "/filter/from/0", "did you mean Incomplete?"),
    ({"filter": {"from": "Complete"}}, "/filter/from", "list"),
    ({"filter": {"user_ids": [1]}}, "/filter/user_ids/0", "text"),
    ({"filter": {"user_ids": ["x"] * 101}}, "/filter/user_ids", "at most 100"),
    ({"filter": {"lab_profile_ids": [True]}}, "/filter/lab_profile_ids/0", "text"),
    ({"headers": {"Host": "x"}}, "/headers/Host", "choose another name"),
    ({"headers": {"Webhook-Id": "x"}}, "/headers/Webhook-Id", "choose another name"),
    ({"headers": {"content-length": "1"}}, "/headers/content-length", "choose another name"),
    ({"headers": {"a b": "x"}}, "/headers/a b", "header name"),
    ({"headers": {"X-A": "a\r\nX-B: c"}}, "/headers/X-A", "printable"),
    ({"headers": {"X-A": "é"}}, "/headers/X-A", "printable"),
    ({"headers": {"X-A": "a" * 1025}}, "/headers/X-A", "1,024"),
    ({"headers": {"X-A": "1", "x-a": "2"}}, "/headers", "twice"),
    ({"headers": {f"X-{n}": "1" for n in range(21)}}, "/headers", "at most 20"),
    ({"format": "xml"}, "/format", "'standard' or 'cloudevents'"),
    ({"signature": "v2"}, "/signature", "'v1' or 'v1a'"),
    ({"signature": "v1a", "secret": SECRET}, "/secret", "leave it out"),
    ({"signature": "v1a", "secret": "whsk_" + "A" * 43 + "="}, "/secret", "whsec_"),
    ({"public_key": None}, "/public_key", "no such field"),
    ({"rate_per_s": 0}, "/rate_per_s", "greater than 0"),
    ({"max_in_flight": 0}, "/max_in_flight", "greater than or equal to 1"),
    ({"max_in_flight": 257}, "/max_in_flight", "256"),
    ({"max_in_flight": "16"}, "/max_in_flight", "whole number"),
    ({"timeout_s": 61}, "/timeout_s", "60"),
    ({"timeout_s": True}, "/timeout_s", "number"),
    ({"retry_schedule_s": []}, "/retry_schedule_s", "must not be empty"),
    ({"retry_schedule_s": [0]}, "/retry_schedule_s/0", "greater than 0"),
    ({"retry_schedule_s": [604801]}, "/retry_schedule_s/0", "604800"),
    ({"enabled": "yes"}, "/enabled", "true or false"),
    ({"colour": "red"}, "/colour", "no such field"),
    ({"a/b~c": 1}, "/a~1b~0c", "no such field"),
]


async def test_every_fault_is_named_with_its_pointer_and_its_mend(redis_client: Redis) -> None:
    """422 with RFC 6901 pointers; nothing is stored, and nothing that was sent comes back."""
    async with admin_api(redis_client) as api:
        for fields, pointer, mend in INVALID:
            answer = await api.call("POST", PATH, {"url": URL, **fields})
            assert (answer.status, answer.pointers) == (422, [pointer]), (fields, answer.body)
            assert mend in answer.body["errors"][0]["detail"], (fields, answer.body)
            assert answer.headers["Content-Type"].startswith("application/problem+json")
            assert answer.body["type"] == "/problems/invalid-input"
            assert "c2hvcnQ" not in str(answer.body)
        answer = await api.call("POST", PATH, {"max_in_flight": 0, "timeout_s": 0})
        assert answer.pointers == ["/url", "/max_in_flight", "/timeout_s"]
        assert (await api.get(PATH)).body["data"] == []


async def test_numbers_are_taken_for_lab_profiles_and_kept_as_text(redis_client: Redis) -> None:
    """The upstream writes these ids as numbers, and so may a caller."""
    async with admin_api(redis_client) as api:
        created = await api.subscribe(filter={"lab_profile_ids": [5522, "5523"], "to": ["Complete"]})
        assert created["filter"]["lab_profile_ids"] == ["5522", "5523"]
        assert created["filter"]["to"] == ["Complete"]


async def test_a_merge_patch_changes_what_it_names_and_null_resets(redis_client: Redis) -> None:
    """RFC 7396, into the filter and the headers; what is not named keeps its value, and so do the secrets."""
    async with admin_api(redis_client) as api:
        created = await api.subscribe(
            filter={"from": ["Incomplete"], "user_ids": ["1"]}, headers={"X-A": "1", "X-B": "2"}, timeout_s=3.5
        )
        path = f"{PATH}/{created['id']}"
        before = await api.store.registry.get(created["id"])
        api.clock.advance(60)
        patch = {
            "filter": {"from": None, "to": ["Complete"]},
            "headers": {"X-A": None, "X-C": "3"},
            "retry_schedule_s": [1, 2.5],
            "description": "mine",
        }
        answer = await api.call("PATCH", path, patch, headers={"Content-Type": "application/merge-patch+json"})
        body = answer.body
        assert (answer.status, body["filter"]["from"], body["filter"]["to"]) == (200, [], ["Complete"])
        assert (body["filter"]["user_ids"], body["headers"]) == (["1"], {"X-B": "2", "X-C": "3"})
        assert (body["retry_schedule_s"], body["timeout_s"], body["description"]) == ([1, 2.5], 3.5, "mine")
        assert (body["created_at"], body["updated_at"]) == (created["created_at"], "2026-11-21T17:01:30.250Z")
        reset = await api.call("PATCH", path, {"timeout_s": None, "filter": None, "retry_schedule_s": None})
        assert (reset.body["timeout_s"], reset.body["filter"]["to"], reset.body["retry_schedule_s"]) == (15, [], None)
        after = await api.store.registry.get(created["id"])
        assert before is not None
        assert after is not None
        assert before.secrets == after.secrets


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"url": None}, "/url"),
        ({"id": "sub_x"}, "/id"),
        ({"secret": "whsec_x"}, "/secret"),
        ({"public_key": None}, "/public_key"),
        ({"previous_public_keys": []}, "/previous_public_keys"),
        ({"signature": "v1b"}, "/signature"),
        ({"state": None}, "/state"),
        ({"filter": {"form": None}}, "/filter/form"),
        ({"filter": 5}, "/filter"),
        ({"headers": {"Host": "x"}}, "/headers/Host"),
    ],
)
async def test_a_patch_that_does_not_fit_changes_nothing(
    redis_client: Redis, patch: dict[str, Any], pointer: str
) -> None:
    """Unknown fields are refused even where they are null."""
    async with admin_api(redis_client) as api:
        path = f"{PATH}/{(await api.subscribe())['id']}"
        before = (await api.get(path)).body
        answer = await api.call("PATCH", path, patch)
        assert (answer.status, answer.pointers) == (422, [pointer])
        assert (await api.get(path)).body == before


async def test_a_patch_without_news_writes_nothing(redis_client: Redis) -> None:
    """Neither a new updated_at nor a line in the audit."""
    async with admin_api(redis_client) as api:
        created = await api.subscribe()
        api.clock.advance(60)
        answer = await api.call("PATCH", f"{PATH}/{created['id']}", {"max_in_flight": 16})
        assert (answer.status, answer.body["updated_at"]) == (200, created["updated_at"])
        assert [one["action"] for one in api.logs if one["event"] == "admin.change"] == ["subscriber.create"]


async def test_disabling_and_enabling_show_in_the_state(redis_client: Redis) -> None:
    """By route and by patch; both may be repeated."""
    async with admin_api(redis_client) as api:
        path = f"{PATH}/{(await api.subscribe())['id']}"
        for method, route, body in (
            ("POST", f"{path}/disable", None),
            ("POST", f"{path}/disable", None),
            ("PATCH", path, {"enabled": False}),
        ):
            answer = await api.call(method, route, body)
            assert (answer.status, answer.body["enabled"], answer.body["state"]["status"]) == (200, False, "disabled")
        for method, route, body in (("POST", f"{path}/enable", None), ("PATCH", path, {"enabled": True})):
            answer = await api.call(method, route, body)
            assert (answer.body["enabled"], answer.body["state"]) == (
                True,
                {"status": "ok", "reason": None, "failing_since": None, "failures": 0, "resting_until": None},
            )
        assert (await api.subscribe(enabled=False))["state"]["status"] == "disabled"


async def test_a_deleted_subscriber_is_gone(redis_client: Redis) -> None:
    """204 once, then 404 on every route."""
    async with admin_api(redis_client) as api:
        path = f"{PATH}/{(await api.subscribe())['id']}"
        assert (await api.call("DELETE", path)).status == 204
        for method, route in (
            ("GET", path),
            ("DELETE", path),
            ("POST", f"{path}/enable"),
            ("POST", f"{path}/disable"),
            ("POST", f"{path}/test"),
        ):
            answer = await api.call(method, route)
            assert (answer.status, answer.body["type"]) == (404, "/problems/not-found")
        assert (await api.call("PATCH", path, {})).status == 404


async def test_concurrent_patches_all_take_effect(redis_client: Redis) -> None:
    """Compare-and-set with a new reading: no change overwrites another."""
    async with admin_api(redis_client) as api:
        path = f"{PATH}/{(await api.subscribe())['id']}"
        patches = ({"description": "d"}, {"timeout_s": 5}, {"include_pii": True})
        answers = await asyncio.gather(*(api.call("PATCH", path, patch) for patch in patches))
        assert {one.status for one in answers} == {200}
        body = (await api.get(path)).body
        assert (body["description"], body["timeout_s"], body["include_pii"]) == ("d", 5, True)


async def test_a_subscriber_that_never_stands_still_is_a_conflict(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few tries 409 says so."""
    async with admin_api(redis_client) as api:

        async def lose(*_: object) -> None:
            raise ChangedMeanwhileError

        path = f"{PATH}/{(await api.subscribe())['id']}"
        monkeypatch.setattr(api.store.registry, "replace", lose)
        monkeypatch.setattr(api.store.registry, "delete", lose)
        assert (await api.call("PATCH", path, {"timeout_s": 5})).body["type"] == "/problems/conflict"
        assert (await api.call("DELETE", path)).status == 409


async def test_pages_stay_valid_while_subscribers_come_and_go(redis_client: Redis) -> None:
    """The one that a cursor points at may be deleted; nobody is left out and nobody comes twice."""
    async with admin_api(redis_client) as api:
        ids = []
        for _ in range(5):
            ids.append((await api.subscribe())["id"])
            api.clock.advance(1)
        first = await api.get(PATH, limit=2)
        assert first.ids == ids[:2]
        await api.call("DELETE", f"{PATH}/{ids[1]}")
        rest = await api.pages(PATH, limit=2, cursor=first.body["next_cursor"])
        assert [one["id"] for one in rest] == ids[2:]


async def test_a_name_that_stands_twice_in_an_object_is_refused(redis_client: Redis) -> None:
    """Readers differ on which value counts, so neither is taken; within objects, too."""
    async with admin_api(redis_client) as api:
        for text, pointers in (
            (b'{"url": "http://127.0.0.1:9/a", "url": "http://127.0.0.1:9/b"}', ["/url"]),
            (b'{"url": "http://127.0.0.1:9/a", "filter": {"to": [], "to": ["Complete"]}}', ["/to"]),
        ):
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            async with api.http.post(PATH, data=text, headers=headers) as response:
                body = await response.json(content_type=None)
            assert (response.status, [one["pointer"] for one in body["errors"]]) == (422, pointers)
        assert (await api.get(PATH)).body["data"] == []


async def test_a_status_that_no_source_is_known_to_have_may_be_asked_for(redis_client: Redis) -> None:
    """Upstreams invent some: only what is nearly the name of a known one is taken for a mistake."""
    async with admin_api(redis_client) as api:
        made = await api.subscribe(filter={"to": ["Archived", "Status 70", "Pending Scoring", "degraded"]})
        assert made["filter"]["to"] == ["Archived", "Status 70", "Pending Scoring", "degraded"]
