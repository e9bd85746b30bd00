"""What may be said of a subscriber where settings or HTTP decide it: sources in a filter, names of headers."""

import msgspec
import pytest
from redis.asyncio import Redis

from relay.admin.subscriber_shown import shown
from relay.core.subscriber import Filter, Subscriber
from tests.service.admin_api import URL, Api, admin_api

PATH = "/v1/subscribers"


async def former(api: Api, source: str) -> str:
    """A subscriber whose filter names a source that was configured when it was registered."""
    subscriber = await api.subscribe()
    stored = await api.store.registry.get(subscriber["id"])
    assert stored is not None
    await api.store.registry.replace(stored, msgspec.structs.replace(stored, filter=Filter(sources=(source,))))
    return f"{PATH}/{stored.id}"


async def test_a_slip_in_the_name_of_a_source_is_refused(redis_client: Redis) -> None:
    """On registration, change and preview; the answer says what there is and what may have been meant."""
    async with admin_api(redis_client) as api:
        good = await api.subscribe(filter={"sources": ["lod", "exams", "relay"]})
        body = {"filter": {"sources": ["lod", "lodd"]}}
        requests = (("POST", PATH, {"url": URL, **body}), ("PATCH", f"{PATH}/{good['id']}", body))
        for method, path, sent in (*requests, ("POST", f"{PATH}/preview", body)):
            answer = await api.call(method, path, sent)
            assert (answer.status, answer.pointers) == (422, ["/filter/sources/1"])
            detail = answer.body["errors"][0]["detail"]
            assert "did you mean lod? There are exams, lod, relay" in detail
            assert "lodd" not in detail
        assert (await api.get(f"{PATH}/{good['id']}")).body["filter"]["sources"] == ["lod", "exams", "relay"]


async def test_a_source_that_is_not_configured_may_be_named(redis_client: Redis) -> None:
    """It may come later, or have gone: a subscriber that names it is registered, shown and changed in all else."""
    async with admin_api(redis_client) as api:
        assert (await api.subscribe(filter={"sources": ["canvas"]}))["filter"]["sources"] == ["canvas"]
        path = await former(api, "lodd")
        assert (await api.get(path)).body["filter"]["sources"] == ["lodd"]
        assert (await api.call("PATCH", path, {"description": "d", "filter": {"to": ["Complete"]}})).status == 200
        assert (await api.call("PATCH", path, {"filter": {"sources": ["lodd", "lod"]}})).status == 200
        assert (await api.call("POST", f"{path}/disable")).body["filter"]["sources"] == ["lodd", "lod"]


@pytest.mark.parametrize(
    ("patch", "headers"),
    [
        ({"x-a": None}, {"X-B": "2"}),
        ({"x-a": "9"}, {"X-B": "2", "x-a": "9"}),
        ({"X-A": "9"}, {"X-A": "9", "X-B": "2"}),
        ({"x-a": None, "x-B": None}, {}),
        ({"x-c": None}, {"X-A": "1", "X-B": "2"}),
        ({"Host": None}, {"X-A": "1", "X-B": "2"}),
        (None, {}),
    ],
)
async def test_a_patch_names_headers_in_any_case(
    redis_client: Redis, patch: dict[str, str | None] | None, headers: dict[str, str]
) -> None:
    """What it removes is not sent any more, what it sets is sent once."""
    async with admin_api(redis_client) as api:
        path = f"{PATH}/{(await api.subscribe(headers={'X-A': '1', 'X-B': '2'}))['id']}"
        answer = await api.call("PATCH", path, {"headers": patch})
        assert (answer.status, answer.body["headers"]) == (200, headers)


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"bad\r\n": None}, "/headers/bad\r\n"),
        ({"": None}, "/headers/"),
        ({"X-A": None, "x-a": "2"}, "/headers"),
        ({"Host": "x"}, "/headers/Host"),
        ("X-A", "/headers"),
    ],
)
async def test_a_name_that_is_none_cannot_be_removed_either(redis_client: Redis, patch: object, pointer: str) -> None:
    """Nothing is taken in silence that can have no effect, and one header is not named twice."""
    async with admin_api(redis_client) as api:
        path = f"{PATH}/{(await api.subscribe(headers={'X-A': '1'}))['id']}"
        answer = await api.call("PATCH", path, {"headers": patch})
        assert (answer.status, answer.pointers) == (422, [pointer])
        assert (await api.get(path)).body["headers"] == {"X-A": "1"}


@pytest.mark.parametrize("path", [PATH, f"{PATH}/preview"])
async def test_a_field_has_the_name_that_is_described(redis_client: Redis, path: str) -> None:
    """`from`, not the name that the language needs."""
    async with admin_api(redis_client) as api:
        url = {"url": URL} if path == PATH else {}
        answer = await api.call("POST", path, {**url, "filter": {"from_": ["Complete"]}})
        assert (answer.status, answer.pointers) == (422, ["/filter/from_"])
        assert (await api.call("POST", path, {**url, "filter": {"from": ["Complete"]}})).status in (200, 201)


async def test_a_stored_subscriber_that_cannot_be_shown_does_not_show_in_the_log(redis_client: Redis) -> None:
    """What does not fit, of a later version for instance, is an error without what stands there."""
    async with admin_api(redis_client) as api:
        stored = Subscriber(id="sub_1", url=URL, filter=Filter(user_ids=("learner-" * 30,)))
        with pytest.raises(ValueError, match="validation error") as raised:
            shown(stored, api.clock.now())
        assert "learner-" not in str(raised.value)
