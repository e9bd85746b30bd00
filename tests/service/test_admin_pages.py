"""What all lists have in common, and how whole numbers and times are read."""

import pytest
from redis.asyncio import Redis

from relay.admin.app import ROUTES
from relay.core.retry import Verdict
from tests.service.admin_api import Api, admin_api, attempt

CONSOLE_PATHS = ("/v1/entities/{source}/{id}", "/v1/events/{id}/explain")
"""Lists that are part of an answer."""


async def lists(api: Api) -> list[str]:
    """The path of every list, each of something that exists."""
    subscriber = await api.subscribe()
    (entry,) = await api.mint(1)
    ids = {"subscribers": subscriber["id"], "events": entry.event_id, "entities": entry.entity_id}
    paths = [one.path for one in api.http.app[ROUTES] if one.page] + list(CONSOLE_PATHS)
    return [one.format(id=ids.get(one.split("/")[2]), source=entry.source) for one in paths]


async def test_an_empty_cursor_is_refused_by_every_list(redis_client: Redis) -> None:
    """Whoever makes an empty text of the last page's null is told, and does not begin again for ever."""
    async with admin_api(redis_client) as api:
        paths = await lists(api)
        assert len(paths) == 8
        for path in paths:
            assert (await api.get(path)).status == 200, path
            answer = await api.get(path, cursor="")
            assert (answer.status, answer.pointers) == (422, ["/cursor"]), path
        assert (await api.get("/v1/events", after="")).pointers == ["/after"]


@pytest.mark.parametrize("limit", ["1_0", " 1", "1 ", "+1", "-1", "1.0", "1e1", "٣", "", "9" * 16, "0", "251"])
async def test_a_whole_number_is_digits(redis_client: Redis, limit: str) -> None:
    """Not all that the language would read as a number."""
    async with admin_api(redis_client) as api:
        answer = await api.get("/v1/subscribers", limit=limit)
        assert (answer.status, answer.pointers) == (422, ["/limit"])
        assert (await api.get("/v1/subscribers", limit="010")).status == 200


async def test_a_cursor_is_refused_by_other_lists(redis_client: Redis) -> None:
    """Those of the same kind too: it would pass over what comes before it there."""
    async with admin_api(redis_client) as api:
        subscribers = [await api.subscribe() for _ in range(3)]
        entries = await api.mint(3)
        for one in subscribers:
            await api.settle(one["id"], *(attempt(one, entry, 1, Verdict.DELIVERED) for entry in entries))
        explained = [f"/v1/events/{one.event_id}/explain" for one in entries[:2]]
        paths = ["/v1/subscribers", "/v1/event-types", "/v1/sources", "/v1/deliveries", *explained]
        for path in paths:
            cursor = (await api.get(path, limit=1)).body["next_cursor"]
            answers = {one: (await api.get(one, cursor=cursor)).status for one in paths}
            assert answers == {one: 200 if one == path else 422 for one in paths}


async def test_a_cursor_of_the_feed_is_a_place_in_it(redis_client: Redis) -> None:
    """It leads on under other filters, and as `after`."""
    async with admin_api(redis_client) as api:
        entries = await api.mint(3)
        cursor = (await api.get("/v1/events", limit=1)).body["next_cursor"]
        for name in ("cursor", "after"):
            (second, third) = (await api.get("/v1/events", **{name: cursor, "source": "lod"})).body["data"]
            assert [one["data"]["event_id"] for one in (second, third)] == [one.event_id for one in entries[1:]]


async def test_a_number_of_a_body_may_be_written_as_a_float(redis_client: Redis) -> None:
    """1.0 is an integer to JSON Schema, in a preview as elsewhere; 1.5 is none."""
    async with admin_api(redis_client) as api:
        await api.mint(2)
        answers = [await api.call("POST", "/v1/subscribers/preview", {"last": last}) for last in (1.0, 1.5)]
        assert [one.status for one in answers] == [200, 422]
        assert answers[0].body["examined"] == 1


@pytest.mark.parametrize("since", ["9999-12-31T23:59:59Z", "2999-01-01T00:00:00z"])
async def test_statistics_of_a_time_to_come_are_refused(redis_client: Redis, since: str) -> None:
    """As a replay of it is, whatever it is to end at."""
    async with admin_api(redis_client) as api:
        for query in ({"since": since}, {"since": since, "until": "9999-12-31T23:59:59.9Z"}):
            answer = await api.get("/v1/statistics", **query)
            assert (answer.status, answer.pointers) == (422, ["/since"])
            assert "future" in answer.body["errors"][0]["detail"]
