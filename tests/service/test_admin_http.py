"""The admin API's manners: tokens, bounds, errors, audit; and the ops endpoints."""

import asyncio
import contextlib
import gzip
import json
from typing import Any

import pytest
import redis.exceptions
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from relay.admin import Gate, ops_app
from relay.admin.app import ROUTES
from relay.app import _listen
from relay.settings import Address
from relay.telemetry import Metrics
from relay.wiring import Listener
from tests.helpers import free_port
from tests.service.admin_api import OTHER_TOKEN, TOKEN, URL, Api, admin_api
from tests.service.test_admin_subscribers import SECRET

PATH = "/v1/subscribers"


async def unfinished(api: Api, head: str) -> tuple[bytes, dict[str, Any]]:
    """Send a head by hand and a body that stops after its first byte; returns head and body of the answer."""
    assert api.http.port is not None
    reader, writer = await asyncio.open_connection(api.http.host, api.http.port)
    writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n{")
    answer = await reader.readuntil(b"\r\n\r\n")
    body = json.loads(await reader.readuntil(b"}"))
    writer.close()
    return answer, body


async def test_every_route_wants_a_token(redis_client: Redis) -> None:
    """Without one, or with a wrong one, 401 says how to send it; a path that does not exist tells no more."""
    async with admin_api(redis_client) as api:
        routes = [(route.method, route.path) for route in api.http.app[ROUTES] if not route.public]
        assert len(routes) > 15
        for method, path in [*routes, ("GET", "/v1/nowhere"), ("OPTIONS", PATH)]:
            async with api.http.request(method, path.replace("{", "").replace("}", "")) as response:
                assert response.status == 401, (method, path)
                assert response.headers["WWW-Authenticate"].startswith("Bearer")
                assert (await response.json(content_type=None))["type"] == "/problems/unauthorized"
        for header in ("Basic abc", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"bearer{TOKEN}"):
            async with api.http.get(PATH, headers={"Authorization": header}) as response:
                assert response.status == 401
                assert TOKEN not in await response.text()


async def test_the_table_of_routes_describes_the_api(redis_client: Redis) -> None:
    """Every route has a summary, and JSON Schemas can be made of all that it takes and answers."""
    async with admin_api(redis_client) as api:
        routes = api.http.app[ROUTES]
        served = {(one.method, one.resource.canonical) for one in api.http.app.router.routes() if one.resource}
        assert {(one.method, one.path) for one in routes} == {one for one in served if one[0] != "HEAD"}
        for route in routes:
            assert route.summary
            assert route.query.model_json_schema()["type"] == "object"
            assert route.body is None or route.body.model_json_schema()["properties"]
            for answer in route.answers.values():
                schema = {} if answer is None else answer.model_json_schema(mode="serialization")
                assert answer is None or schema.get("properties") or schema["type"] == "string"


async def test_each_of_several_tokens_is_accepted(redis_client: Redis) -> None:
    """Rotation: the old and the new token work side by side; without any configured nobody gets in."""
    async with admin_api(redis_client) as api:
        for token in (TOKEN, OTHER_TOKEN):
            assert (await api.call("GET", PATH, token=token)).status == 200
    async with admin_api(redis_client, tokens=()) as api:
        assert (await api.get(PATH)).status == 401


async def test_who_sends_refused_tokens_is_asked_to_wait_and_valid_ones_pass(redis_client: Redis) -> None:
    """429 with Retry-After once the bucket is empty; it fills again with time; the operator is never locked out."""
    async with admin_api(redis_client) as api:
        answers = [await api.call("GET", PATH, token="wrong") for _ in range(21)]
        assert [one.status for one in answers] == [401] * 20 + [429]
        assert (answers[-1].headers["Retry-After"], answers[-1].body["type"]) == (
            "1",
            "/problems/too-many-refused-tokens",
        )
        assert (await api.get(PATH)).status == 200
        api.clock.advance(1)
        assert (await api.call("GET", PATH, token="wrong")).status == 401


async def test_every_answer_carries_a_request_id(redis_client: Redis) -> None:
    """A sane one that the caller brings is kept; anything else is replaced."""
    async with admin_api(redis_client) as api:
        for given, kept in (("job-1.a_b", True), ("a b", False), ("x" * 65, False)):
            answer = await api.call("GET", "/v1/nowhere", headers={"X-Request-Id": given})
            assert (answer.headers["X-Request-Id"] == given) is kept
        assert (await api.get(PATH)).headers["X-Request-Id"].startswith("req_")


async def test_unknown_paths_and_methods_are_problems(redis_client: Redis) -> None:
    """404; 405 and OPTIONS with Allow; HEAD without a body."""
    async with admin_api(redis_client) as api:
        assert (await api.get("/v2/subscribers")).body["type"] == "/problems/not-found"
        refused = await api.call("PUT", PATH)
        assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD, POST")
        options = await api.call("OPTIONS", PATH)
        assert (options.status, options.headers["Allow"]) == (204, "GET, HEAD, POST")
        head = await api.call("HEAD", PATH)
        assert (head.status, head.headers["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"", 400),
        ("application/json", b'{"url": ', 400),
        ("application/json", b'{"timeout_s": NaN}', 400),
        ("application/json", b"\xff\xfe", 400),
        ("application/json", b'{"url": "\\ud800"}', 400),
        ("application/json", b"[" * 60_000, 400),
        ("application/json", b"[]", 422),
        ("application/json", b'{"url": ' + b"9" * 4000 + b"}", 422),
        ("application/json", b" " * 65_537, 413),
        ("text/plain", b"{}", 415),
        ("", b"{}", 415),
        ("application/merge-patch+json", b"{}", 415),
        ("application/json; charset=latin-1", b"{}", 415),
    ],
)
async def test_bodies_that_cannot_be_read_are_problems(
    redis_client: Redis, content_type: str, body: bytes, status: int
) -> None:
    """Malformed, oversized, of another type: a problem each, never a 500."""
    async with admin_api(redis_client) as api:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": content_type}
        async with api.http.post(PATH, data=body, headers=headers) as response:
            assert response.status == status
            assert (await response.json(content_type=None))["status"] == status


async def test_a_compressed_body_is_refused(redis_client: Redis) -> None:
    """A small body cannot become a large one; who has no token is told of that alone, whatever the body is."""
    async with admin_api(redis_client) as api:
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
        }
        data = gzip.compress(b'{"url": "' + b"a" * 10_000_000 + b'"}')
        async with api.http.post(PATH, data=data, headers=headers) as response:
            assert (response.status, response.headers["Accept-Encoding"]) == (415, "identity")
        async with api.http.post(PATH, data=data, headers={**headers, "Authorization": "Bearer x"}) as response:
            assert response.status == 401


async def test_a_body_that_never_ends_is_given_up(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """408 after the time for it, and the connection is closed."""
    monkeypatch.setattr("relay.admin.requests.BODY_S", 0.02)
    async with admin_api(redis_client) as api:
        head = f"POST {PATH} HTTP/1.1\nHost: x\nAuthorization: Bearer {TOKEN}\nContent-Type: application/json\n"
        answer, problem = await unfinished(api, head + "Content-Length: 10")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer.lower()
        assert problem["type"] == "/problems/body-timeout"


async def test_what_is_no_http_is_not_repeated_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A token with a stray control character: the server refuses it, and tells the log no more than that."""
    address = Address(host="127.0.0.1", port=free_port())
    async with contextlib.AsyncExitStack() as stack:
        gate = Gate("api", Metrics(), connections=9)
        await _listen(Listener("RELAY_LISTEN", address, web.Application(), gate), stack)
        with structlog.testing.capture_logs() as logs:
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(f"GET / HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\x00\r\n\r\n".encode())
            assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
            writer.close()
    assert [(one["event"], one["error"]) for one in logs] == [("http.not_served", "BadHttpMessage")]
    assert TOKEN not in caplog.text + str(logs)


async def test_query_parameters_are_checked(redis_client: Redis) -> None:
    """Unknown, repeated and impossible ones are named, on routes without parameters too."""
    async with admin_api(redis_client) as api:
        for query, pointer in (
            ("limit=0", "/limit"),
            ("limit=251", "/limit"),
            ("limit=x", "/limit"),
            ("limits=5", "/limits"),
            ("limit=1&limit=2", "/limit"),
            ("cursor=%00", "/cursor"),
            ("cursor=abc", "/cursor"),
            ("cursor=é", "/cursor"),
        ):
            answer = await api.get(f"{PATH}?{query}")
            assert (answer.status, answer.pointers) == (422, [pointer]), query
        assert (await api.call("POST", f"{PATH}?dry_run=1", {"url": URL})).pointers == ["/dry_run"]
        assert (await api.get("/v1/event-types/lab.completed?x=1")).status == 422


async def test_a_cursor_of_another_list_is_refused(redis_client: Redis) -> None:
    """A cursor belongs to its route."""
    async with admin_api(redis_client) as api:
        await api.mint(2)
        cursor = (await api.get("/v1/events", limit=1)).body["next_cursor"]
        assert (await api.get(PATH, cursor=cursor)).pointers == ["/cursor"]


async def test_an_unexpected_error_tells_nothing_outside(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 without internals; the log has the request's id and the route's pattern, not the path."""
    async with admin_api(redis_client) as api:

        async def fail(_: object) -> None:
            raise ZeroDivisionError(SECRET)

        monkeypatch.setattr(api.store.registry, "get", fail)
        answer = await api.get(f"{PATH}/sub_of_somebody")
        assert (answer.status, answer.body["type"]) == (500, "/problems/internal")
        assert SECRET not in str(answer.body)
        (line,) = [one for one in api.logs if one["event"] == "admin.failed"]
        assert line["route"] == "/v1/subscribers/{id}"
        assert line["request_id"] == answer.headers["X-Request-Id"]


async def test_a_store_that_is_away_is_503(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary, with Retry-After, and without the store's address."""
    async with admin_api(redis_client) as api:

        async def fail() -> None:
            raise redis.exceptions.ConnectionError("redis.internal:6379 refused")

        monkeypatch.setattr(api.store.registry, "all", fail)
        answer = await api.get(PATH)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "redis.internal" not in str(answer.body)


async def test_each_change_leaves_one_line_that_holds_no_secret(redis_client: Redis) -> None:
    """Actor, action, target, request id; neither tokens nor URLs, headers, bodies or secrets."""
    async with admin_api(redis_client) as api:
        fields: dict[str, Any] = {"secret": SECRET, "headers": {"X-Key": "hunter2"}, "description": "confidential"}
        created = await api.subscribe(**fields)
        path = f"{PATH}/{created['id']}"
        await api.call("PATCH", path, {"timeout_s": 5}, token=OTHER_TOKEN)
        await api.call("POST", f"{path}/disable")
        await api.call("POST", f"{path}/enable")
        await api.call("POST", f"{path}/test")
        await api.call("POST", "/v1/sources/lod/poll")
        await api.call("DELETE", path)
        await api.get(PATH)
        lines = [one for one in api.logs if one["event"] == "admin.change"]
        assert [one["action"] for one in lines] == [
            "subscriber.create",
            "subscriber.change",
            "subscriber.disable",
            "subscriber.enable",
            "subscriber.test",
            "source.poll",
            "subscriber.delete",
        ]
        assert {frozenset(one) for one in lines} == {
            frozenset({"event", "log_level", "actor", "action", "target", "request_id"})
        }
        assert [one["target"] for one in lines] == [*[created["id"]] * 5, "lod", created["id"]]
        assert (lines[0]["actor"] == lines[2]["actor"], lines[0]["actor"] == lines[1]["actor"]) == (True, False)
        text = json.dumps(api.logs, default=str)
        for word in (TOKEN, OTHER_TOKEN, SECRET, "hunter2", "confidential", "secret-path"):
            assert word not in text


async def test_the_ops_endpoints_say_how_it_is() -> None:
    """Liveness, readiness with its reason, and metrics in Prometheus' own format; no token."""
    metrics, alive = Metrics(), [True]
    reason: list[str | None] = [None]
    metrics.dead.inc(3)

    async def ready() -> str | None:
        return reason[0]

    app = ops_app(metrics=metrics, alive=lambda: alive[0], ready=ready)
    async with TestClient[web.Request, web.Application](TestServer(app)) as http:
        assert await _text(http, "/healthz") == (200, "ok\n")
        assert await _text(http, "/readyz") == (200, "ok\n")
        alive[0], reason[0] = False, "draining"
        assert (await _text(http, "/healthz"))[0] == 503
        assert await _text(http, "/readyz") == (503, "draining\n")
        async with http.get("/metrics") as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=")
            assert "relay_dead_letters_total 3.0" in await response.text()


async def _text(http: TestClient[web.Request, web.Application], path: str) -> tuple[int, str]:
    async with http.get(path) as response:
        return response.status, await response.text()
