"""`Idempotency-Key`: carried out once, answered alike, and what is left of a request whose relay died."""

import asyncio
from typing import Any, Final

import pytest
import redis.exceptions
from aiohttp import web
from redis.asyncio import Redis

from relay.admin.app import ROUTES
from relay.admin.idempotency import HEADER, REPLAYED, TTL_S
from relay.core.subscriber import Subscriber
from relay.store import Store
from tests.helpers import wait_until
from tests.service.admin_api import OTHER_TOKEN, TOKEN, URL, Answer, Api, admin_api
from tests.service.test_admin_subscribers import SECRET

PATH: Final = "/v1/subscribers"
KEY: Final = "8e03978e-40d5-43dd-bc93-6894a57f9324"


async def post(api: Api, path: str = PATH, body: Any = None, key: str = KEY, token: str = TOKEN) -> Answer:
    """A POST with a key; without a body it registers a subscriber."""
    body = {"url": URL} if body is None and path == PATH else body
    return await api.call("POST", path, body, token=token, headers={HEADER: key})


def died(api: Api, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the relay die, as far as the store can tell, just before `name` of the idempotency store."""

    async def never(*_: object, **__: object) -> bool:
        raise redis.exceptions.ConnectionError

    monkeypatch.setattr(api.store.idempotency, name, never)


async def records(client: Redis) -> list[dict[Any, Any]]:
    """What the store holds of requests."""
    return [await client.hgetall(key) async for key in client.scan_iter("*:idem:*")]


async def test_a_repeat_is_answered_alike_and_changes_nothing(redis_client: Redis) -> None:
    """Status, Location and body with the secret, byte for byte; one subscriber, one line in the audit."""
    async with admin_api(redis_client) as api:
        first, again = await post(api), await post(api)
        assert (first.status, again.status, again.body) == (201, 201, first.body)
        assert again.body["secret"].startswith("whsec_")
        assert again.headers["Location"] == first.headers["Location"]
        assert again.headers["Content-Type"] == first.headers["Content-Type"]
        assert (REPLAYED in first.headers, again.headers[REPLAYED]) == (False, "true")
        assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]
        assert len((await api.get(PATH)).body["data"]) == 1
        assert [one["action"] for one in api.logs if one["event"] == "admin.change"] == ["subscriber.create"]


async def test_a_key_belongs_to_a_token_and_a_path(redis_client: Redis) -> None:
    """The same key elsewhere, or another operator's, is another request; without one nothing is remembered."""
    async with admin_api(redis_client) as api:
        one = await post(api)
        other = await post(api, token=OTHER_TOKEN)
        assert one.body["id"] != other.body["id"]
        for each in (one, other):
            shown = await post(api, f"{PATH}/{each.body['id']}/disable")
            assert (shown.status, shown.body["id"], REPLAYED in shown.headers) == (200, each.body["id"], False)
        assert len(await records(redis_client)) == 4
        await api.subscribe()
        assert len(await records(redis_client)) == 4


async def test_the_key_with_another_body_is_refused(redis_client: Redis) -> None:
    """422 names the header; what the first request did stands."""
    async with admin_api(redis_client) as api:
        await post(api)
        answer = await post(api, body={"url": URL, "timeout_s": 5})
        assert (answer.status, answer.pointers) == (422, [f"/{HEADER}"])
        assert "another body" in answer.body["errors"][0]["detail"]
        assert len((await api.get(PATH)).body["data"]) == 1


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256])
async def test_a_key_that_is_none_is_refused(redis_client: Redis, key: str) -> None:
    """422; two keys in one request too."""
    async with admin_api(redis_client) as api:
        answer = await post(api, key=key)
        assert (answer.status, answer.pointers) == (422, [f"/{HEADER}"])
        headers = [(HEADER, "a"), (HEADER, "b"), ("Authorization", f"Bearer {TOKEN}")]
        async with api.http.post(PATH, json={"url": URL}, headers=headers) as response:
            assert response.status == 422
        assert (await api.get(PATH)).body["data"] == []


async def test_a_refused_request_leaves_its_key_free(redis_client: Redis) -> None:
    """Whoever mends the body, or the state of things, sends it again under the same key."""
    async with admin_api(redis_client) as api:
        assert (await post(api, body={"url": "ftp://x"})).status == 422
        assert (await post(api, "/v1/sources/nowhere/poll")).status == 404
        assert await records(redis_client) == []
        assert (await post(api)).status == 201


async def test_every_post_honours_the_key(redis_client: Redis) -> None:
    """Whatever it does, the second time it does nothing; a GET does not look at the key."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        bodies = {"/v1/deliveries/redeliver": {"all": True}, PATH: {"url": URL}}
        tried = 0
        for route in api.http.app[ROUTES]:
            path = route.path.replace("{id}", subscriber["id"]).replace("{name}", "lod")
            if route.method != "POST" or "/deliveries/{id}" in route.path or route.path.endswith(("replay", "preview")):
                continue
            first, again = [await post(api, path, bodies.get(path)) for _ in range(2)]
            assert (first.status // 100, again.status, again.body) == (2, first.status, first.body), path
            assert again.headers[REPLAYED] == "true"
            tried += 1
        assert tried >= 8
        answers = [await api.call("GET", PATH, headers={HEADER: KEY}) for _ in range(2)]
        assert all(REPLAYED not in one.headers for one in answers)


async def test_of_several_at_once_one_is_carried_out(redis_client: Redis) -> None:
    """On two replicas: one answer, everybody else is told to wait, and gets that answer then."""
    async with admin_api(redis_client) as api, admin_api(redis_client, seed=8) as other:
        answers = await asyncio.gather(*(post(one) for one in [api, other] * 5))
        made = {one.body["id"] for one in answers if one.status == 201}
        waiting = [one for one in answers if one.status != 201]
        assert {(one.status, one.headers["Retry-After"]) for one in waiting} <= {(409, "1")}
        assert (await post(other)).body["id"] in made
        assert (len(made), len((await api.get(PATH)).body["data"])) == (1, 1)


async def test_a_request_under_way_is_held_on_to(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: 409 with Retry-After on every replica, and afterwards its answer."""
    monkeypatch.setattr("relay.admin.idempotency.HOLD_S", 0.3)
    go_on = asyncio.Event()
    async with admin_api(redis_client) as api, admin_api(redis_client, seed=8) as other:
        create = api.store.registry.create

        async def slow(subscriber: Subscriber) -> None:
            await go_on.wait()
            await create(subscriber)

        monkeypatch.setattr(api.store.registry, "create", slow)
        first = asyncio.create_task(post(api))
        await wait_until(lambda: records(redis_client))
        (begun,) = await records(redis_client)
        await wait_until(lambda: held_longer(redis_client, float(begun[b"u"]) + 300))
        waiting = await post(other)
        assert (waiting.status, waiting.headers["Retry-After"]) == (409, "1")
        go_on.set()
        assert (await first).status == 201
        assert (await post(other)).body == (await first).body


async def held_longer(client: Redis, until_ms: float) -> bool:
    """Whether the one request in the store is held beyond a time."""
    (record,) = await records(client)
    return float(record[b"u"]) > until_ms


async def test_a_relay_that_dies_before_its_answer_is_kept_has_made_one_subscriber(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after registering: the repeat waits until nobody holds on, then finds that subscriber with its secret."""
    monkeypatch.setattr("relay.admin.idempotency.HOLD_S", 0.05)
    async with admin_api(redis_client) as dead, admin_api(redis_client, seed=8) as api:
        died(dead, monkeypatch, "keep")
        lost = await post(dead)
        answers = [await post(api)]

        async def done() -> bool:
            answers.append(await post(api))
            return answers[-1].status != 409

        await wait_until(done)
        assert (answers[-1].status, answers[-1].body["id"]) == (201, lost.body["id"])
        assert answers[-1].body["secret"] == lost.body["secret"]
        assert (await post(api)).headers[REPLAYED] == "true"
        assert len((await api.get(PATH)).body["data"]) == 1


async def test_after_a_failure_the_same_subscriber_is_made(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 although it was registered: the repeat begins at once; a refusal in between does not forget the seed."""
    async with admin_api(redis_client) as api:
        create = api.store.registry.create

        async def lost_reply(subscriber: Subscriber) -> None:
            await create(subscriber)
            raise redis.exceptions.TimeoutError

        async def refuse(_: Subscriber) -> None:
            raise web.HTTPConflict

        for broken, status in ((lost_reply, 503), (refuse, 409)):
            monkeypatch.setattr(api.store.registry, "create", broken)
            assert (await post(api)).status == status
        monkeypatch.setattr(api.store.registry, "create", create)
        answer = await post(api)
        (only,) = (await api.get(PATH)).body["data"]
        assert (answer.status, answer.body["id"]) == (201, only["id"])
        assert answer.headers["Location"].endswith(only["id"])


@pytest.mark.parametrize("name", ["keep", "begin"])
async def test_a_replay_whose_answer_was_lost_is_the_answer_of_the_repeat(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The relay or the store's reply was lost once it had begun: neither a second one nor 409 for being in the way."""
    monkeypatch.setattr("relay.admin.idempotency.HOLD_S", 0.05)
    async with admin_api(redis_client) as dead, admin_api(redis_client, seed=8) as api:
        subscriber = await api.subscribe()
        await api.mint(3)
        path, body = f"{PATH}/{subscriber['id']}/replay", {"since": "2001-01-01T00:00:00Z", "only": "all"}
        where = dead.store.idempotency if name == "keep" else dead.store.replays
        real = getattr(where, name)

        async def lost(*args: Any) -> None:
            if name == "begin":
                await real(*args)
            raise redis.exceptions.TimeoutError

        monkeypatch.setattr(where, name, lost)
        assert (await post(dead, path, body)).status == (202 if name == "keep" else 503)
        answers: list[Answer] = []

        async def done() -> bool:
            answers.append(await post(api, path, body))
            return answers[-1].status != 409 or "Retry-After" not in answers[-1].headers

        await wait_until(done)
        (only,) = (await api.get(f"{path}s")).body["data"]
        assert (answers[-1].status, answers[-1].body) == (202, only)
        assert answers[-1].headers["Location"].endswith(only["id"])
        assert (await post(api, path, body, key="another")).status == 409


async def test_what_only_reads_keeps_nothing(redis_client: Redis) -> None:
    """A preview is made anew for each request, also under the same key."""
    async with admin_api(redis_client) as api:
        counts = []
        for _ in range(2):
            await api.mint(1)
            counts.append((await post(api, f"{PATH}/preview", {})).body["examined"])
        assert counts == [1, 2]
        assert await records(redis_client) == []


async def test_an_internal_error_is_not_kept(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """500, and the repeat is carried out."""
    async with admin_api(redis_client) as api:
        with monkeypatch.context() as patched:
            patched.setattr(api.store.log, "announce", None)
            assert (await post(api, "/v1/sources/lod/poll")).status == 500
        answer = await post(api, "/v1/sources/lod/poll")
        assert (answer.status, REPLAYED in answer.headers) == (202, False)


async def test_what_is_kept_tells_nothing_and_is_gone_after_a_day(redis_client: Redis) -> None:
    """Neither secret, key, token nor body stands in the store; the time to live counts from the first try."""
    async with admin_api(redis_client) as api:
        created = (await post(api, body={"url": URL, "secret": SECRET, "description": "confidential"})).body
        (name,) = [key async for key in redis_client.scan_iter("*:idem:*")]
        assert TTL_S * 1000 - 5000 < await redis_client.pttl(name) <= TTL_S * 1000
        text = str([name, *(await records(redis_client))])
        for word in (SECRET, KEY, TOKEN, URL, "confidential", created["id"]):
            assert word not in text
        assert created["secret"] == SECRET


async def test_an_answer_that_cannot_be_kept_is_not_made_again(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too large, or sealed with a key that is gone: 409 says that the request was carried out."""
    monkeypatch.setattr("relay.admin.idempotency.MAX_ANSWER_BYTES", 10)
    async with admin_api(redis_client) as api:
        answers = [await post(api) for _ in range(2)]
        assert [one.status for one in answers] == [201, 409]
        monkeypatch.undo()
        await post(api, key="other")
    async with admin_api(redis_client, keys=(b"n" * 32,)) as api:
        assert "carried out" in (await post(api, key="other")).body["detail"]
        assert len(await Store(redis_client).registry.all()) == 2
