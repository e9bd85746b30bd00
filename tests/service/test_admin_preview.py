"""Preview: which of the latest events a subscription would have got, and which condition refused the others."""

from typing import Any

import pytest
from redis.asyncio import Redis

from relay.core.log import START
from tests.service.admin_api import Api, admin_api

PATH = "/v1/subscribers/preview"


async def _preview(api: Api, **wishes: Any) -> dict[str, Any]:
    answer = await api.call("POST", PATH, wishes)
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.body
    return body


async def test_it_counts_what_matches_and_what_refuses(redis_client: Redis) -> None:
    """By type, and by the first condition that said no; the events themselves newest first."""
    async with admin_api(redis_client) as api:
        completed = await api.mint(3, "lab.completed")
        await api.mint(2, "lab.failed.save")
        mine = await api.mint(2, "lab.completed", user_id="7")
        told = await _preview(api, event_types=["lab.completed"], filter={"user_ids": ["7"]})
        assert (told["examined"], told["matched"]) == (7, 2)
        assert told["matched_by_type"] == {"lab.completed": 2}
        assert told["refused_by"] == {"event_types": 2, "user_ids": 3}
        assert [one["event_id"] for one in told["events"]] == [one.event_id for one in reversed(mine)]
        everything = await _preview(api)
        assert (everything["matched"], everything["refused_by"]) == (7, {})
        assert [one["event_id"] for one in everything["events"]][-3:] == [one.event_id for one in reversed(completed)]
        assert everything["events"][0]["entity"] == {"kind": "lab_instance", "id": mine[1].entity_id}


async def test_it_looks_at_so_many_and_shows_a_few(redis_client: Redis) -> None:
    """`last` counts from the end; the list is bounded, the counts are not."""
    async with admin_api(redis_client) as api:
        minted = await api.mint(1200)
        told = await _preview(api, last=1100)
        assert (told["examined"], told["matched"], len(told["events"])) == (1100, 1100, 100)
        assert told["events"][0]["event_id"] == minted[-1].event_id
        assert (await _preview(api))["examined"] == 1000
        assert (await _preview(api, last=10_000))["examined"] == 1200
        assert (await _preview(api, last=1))["since"] == told["events"][0]["logged_at"]


async def test_it_changes_nothing(redis_client: Redis) -> None:
    """No subscriber, no event, no word to the replicas, no line in the audit."""
    async with admin_api(redis_client) as api:
        await api.mint(3)
        before = await redis_client.dbsize(), await api.store.log.end(), await api.store.log.control_end()
        await _preview(api, event_types=["lab.*"])
        assert before == (await redis_client.dbsize(), await api.store.log.end(), await api.store.log.control_end())
        assert not [line for line in api.logs if line["event"] == "admin.change"]


async def test_an_empty_log_has_nothing_to_show(redis_client: Redis) -> None:
    """Zeros, and no beginning."""
    async with admin_api(redis_client) as api:
        told = await _preview(api)
        assert told == {
            "examined": 0,
            "since": None,
            "matched": 0,
            "matched_by_type": {},
            "refused_by": {},
            "events": [],
        }
        assert await api.store.log.end() == START


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"last": 0}, "/last"),
        ({"last": 10_001}, "/last"),
        ({"last": "5"}, "/last"),
        ({"event_types": []}, "/event_types"),
        ({"event_types": ["lab.compleeted"]}, "/event_types/0"),
        ({"filter": {"user_id": ["1"]}}, "/filter/user_id"),
        ({"url": "https://example.org"}, "/url"),
    ],
)
async def test_what_makes_no_sense_is_refused(redis_client: Redis, body: dict[str, Any], pointer: str) -> None:
    """422 that names the field, as at registration."""
    async with admin_api(redis_client) as api:
        answer = await api.call("POST", PATH, body)
        assert (answer.status, answer.pointers) == (422, [pointer])
