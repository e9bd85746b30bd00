"""What explains is described truly: real answers of these routes fit the schemas that the API's description has."""

from typing import Any

from redis.asyncio import Redis

from relay.core.retry import Verdict
from relay.sources.base import Page
from tests.service.admin_api import admin_api, attempt
from tests.service.polling import PollRig, lab
from tests.service.test_admin_openapi import validator


async def test_answers_fit_their_schemas(redis_client: Redis) -> None:
    """With deliveries in every state, waits, refusals, rows kept out, unknown entities and the relay's own events."""
    async with admin_api(redis_client) as api:
        async with api.http.get("/openapi.json") as response:
            document: dict[str, Any] = await response.json()
        pending, dead, off = [await api.subscribe() for _ in range(3)]
        await api.subscribe(filter={"class_ids": ["c"]})
        await api.call("POST", f"/v1/subscribers/{off['id']}/disable")
        rig = PollRig(redis_client)
        holder = rig.holder()
        for pages in ([lab(1)], [lab(1), lab(7)], [lab(7), lab(8, ExamScore="x"), lab(1, 4, End=1)]):
            rig.source.pages = [Page(pages)]
            await holder.poll()
        await holder.leases.leave()
        entry = (await rig.log())[-1]
        soon = await api.store.deliveries.now_ms() + 60_000
        await api.settle(pending["id"], attempt(pending, entry, 1, Verdict.RETRY, next_ms=soon), cursor=entry)
        await api.settle(dead["id"], attempt(dead, entry, 1, Verdict.DEAD), cursor=entry)

        async def check(method: str, path: str, template: str, body: object = None) -> None:
            answer = await api.call(method, path, body)
            assert answer.status < 300, answer.body
            operation = document["paths"][template][method.lower()]
            schema = operation["responses"][str(answer.status)]["content"]["application/json"]["schema"]
            validator(document, schema).validate(answer.body)

        await check("GET", f"/v1/events/{entry.event_id}/explain", "/v1/events/{id}/explain")
        for name in ("lod/1", "lod/7", f"lod/{entry.entity_id}", f"relay/{off['id']}"):
            await check("GET", f"/v1/entities/{name}", "/v1/entities/{source}/{id}")
        for name in ("lod/1", "lod/7", "lod/8", "lod/99", "exams/1"):
            await check("GET", f"/v1/entities/{name}/explain", "/v1/entities/{source}/{id}/explain")
        await check("POST", "/v1/subscribers/preview", "/v1/subscribers/preview", {"filter": {"class_ids": ["c"]}})
        await check("GET", "/v1/sources/lod", "/v1/sources/{name}")
        await check("GET", "/v1/sources", "/v1/sources")
        await check("POST", "/v1/sources/lod/poll", "/v1/sources/{name}/poll")
