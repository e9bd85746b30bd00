"""Answers that are kept for repeats of a request, when a learner whom they show is erased."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest
from redis.asyncio import Redis

from relay.admin.idempotency import HEADER, REPLAYED
from relay.core.log import Entry
from relay.core.retry import Verdict
from tests.service.admin_api import URL, Answer, Api, admin_api, attempt

GONE: Final = "learner-to-forget"


@pytest.fixture
async def api(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """Provide the API on an empty store; no replica is to be waited for."""
    monkeypatch.setattr("relay.erasure.SETTLE_S", 0.0)
    async with admin_api(redis_client) as made:
        yield made


async def failed(api: Api) -> str:
    """The path that makes a delivery again of which the subscriber has answered with what it was sent."""
    subscriber = await api.subscribe()
    entry: Entry
    (entry,) = await api.mint(1, user_id=GONE)
    echoed = msgspec.structs.replace(attempt(subscriber, entry, 1, Verdict.DEAD), body=GONE.encode())
    await api.settle(subscriber["id"], echoed, cursor=entry)
    return f"/v1/deliveries/dlv_{subscriber['id'][4:]}_{entry.event_id[4:]}/redeliver"


async def post(api: Api, path: str, body: Any = None) -> Answer:
    """A POST with a key."""
    return await api.call("POST", path, body, headers={HEADER: "k"})


async def erase(api: Api) -> None:
    """Erase the learner."""
    assert (await api.call("DELETE", f"/v1/users/{GONE}")).status == 200


async def test_an_erased_learner_does_not_come_back_out_of_a_kept_answer(api: Api) -> None:
    """What was carried out is not carried out again, and 409 says that its answer is no more; so with a filter."""
    path = await failed(api)
    requests = [(path, None), ("/v1/subscribers", {"url": URL, "filter": {"user_ids": [GONE]}})]
    firsts = [await post(api, *request) for request in requests]
    repeats = [await post(api, *request) for request in requests]
    assert all(GONE in repr(one.body) for one in [*firsts, *repeats])
    assert [one.headers[REPLAYED] for one in repeats] == ["true", "true"]
    await erase(api)
    for request in requests:
        answer = await post(api, *request)
        assert (answer.status, REPLAYED in answer.headers) == (409, False)
        assert "learner was erased" in answer.body["detail"]
        assert GONE not in repr(answer.body)
    assert len((await api.get("/v1/subscribers")).ids) == 2


async def test_an_answer_made_before_an_erasure_and_kept_after_it_is_for_nobody(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request had read what the subscriber echoed; its own caller has the answer, a repeat does not."""
    path = await failed(api)
    keep, made, erased = api.store.idempotency.keep, asyncio.Event(), asyncio.Event()

    async def late(record: str, owner: str, answer: str) -> bool:
        made.set()
        await erased.wait()
        return await keep(record, owner, answer)

    monkeypatch.setattr(api.store.idempotency, "keep", late)
    first = asyncio.create_task(post(api, path))
    await made.wait()
    await erase(api)
    erased.set()
    assert GONE in repr((await first).body)
    answer = await post(api, path)
    assert (answer.status, GONE in repr(answer.body)) == (409, False)


async def test_what_is_asked_after_an_erasure_is_kept_again(api: Api) -> None:
    """Only what came before is lost."""
    await erase(api)
    first, again = [await post(api, "/v1/subscribers", {"url": URL}) for _ in range(2)]
    assert (again.headers[REPLAYED], again.body) == ("true", first.body)
