"""The API's description: complete, valid by the OpenAPI 3.1 meta-schema, its examples true; and the page at /docs."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # the library has no annotations
import pytest
from playwright.async_api import ConsoleMessage, Request, async_playwright
from redis.asyncio import Redis
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from schemathesis.specs.openapi.definitions import OPENAPI_31

from relay.admin.app import ROUTES
from relay.core.catalogue import catalogue, covers_any, patterns
from tests.helpers import wait_until
from tests.service.admin_api import TOKEN, Api, admin_api

CHROMIUM = "/usr/bin/chromium"


@pytest.fixture
async def document(redis_client: Redis) -> dict[str, Any]:
    """The description as it is served, without a token."""
    async with admin_api(redis_client) as api, api.http.get("/openapi.json") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        found: dict[str, Any] = await response.json()
        return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def schemas(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The components, and what stands anywhere under `schema`."""
    return [*document["components"]["schemas"].values(), *_under_schema(document)]


def _under_schema(node: Any) -> Iterator[dict[str, Any]]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == "schema" and isinstance(value, dict):
            yield value
        if key not in ("example", "examples", "properties") and isinstance(value, (dict, list)):
            yield from _under_schema(value)


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """Checks values against a schema of the document, formats included."""
    absolute, whole = (
        json.loads(json.dumps(one).replace('"$ref": "#/', '"$ref": "urn:api#/')) for one in (schema, document)
    )
    registry: Any = Registry().with_resource("urn:api", DRAFT202012.create_resource(whole))
    return jsonschema.Draft202012Validator(
        absolute, registry=registry, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


async def test_every_route_is_described_and_nothing_else(redis_client: Redis, document: dict[str, Any]) -> None:
    """The router and the description agree; what is no part of the API is public and answers no method but GET."""
    async with admin_api(redis_client) as api:
        served = {(one.method, one.resource.canonical) for one in api.http.app.router.routes() if one.resource}
        pages = {(one.method, one.path) for one in api.http.app[ROUTES] if not one.documented}
        assert all(one.public for one in api.http.app[ROUTES] if not one.documented)
    described = {(method.upper(), path) for method, path, _ in operations(document)}
    assert described | pages == {one for one in served if one[0] != "HEAD"}
    assert {method for method, _ in pages} == {"GET"}


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    """By the OpenAPI 3.1 meta-schema; every schema in it is a schema; every reference leads somewhere."""
    jsonschema.Draft202012Validator(OPENAPI_31).validate(document)
    for schema in schemas(document):
        jsonschema.Draft202012Validator.check_schema(schema)
    for ref in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))):
        node = document
        for part in ref.split("/"):
            node = node[part]
    assert document["openapi"].startswith("3.1.")


def test_examples_fit_their_schemas(document: dict[str, Any]) -> None:
    """Each example of a schema, a body or an answer is valid, and every body and answer has one."""
    checked = 0
    for schema in schemas(document):
        for example in schema.get("examples", ()):
            validator(document, schema).validate(example)
            checked += 1
    contents = [operation["post"]["requestBody"]["content"] for operation in document["webhooks"].values()]
    contents += [one["content"] for one in document["components"]["responses"].values()]
    for media in (media for content in contents for media in content.values()):
        validator(document, media["schema"]).validate(media["example"])
    assert checked > 20
    for method, path, operation in operations(document):
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents += [one.get("content", {}) for one in operation["responses"].values()]
        for media in (media for content in contents for media in content.values()):
            name = media["schema"]["$ref"].rpartition("/")[2] if "$ref" in media["schema"] else ""
            assert document["components"]["schemas"][name].get("examples"), (method, path, name)


def test_operations_are_named_and_say_what_they_need(document: dict[str, Any]) -> None:
    """Names are unique, of one form and stable; every operation but the description itself wants a token."""
    found = {operation["operationId"]: (method, path) for method, path, operation in operations(document)}
    assert len(found) == sum(1 for _ in operations(document))
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", name) for name in found)
    assert found["rotateSubscriberSecret"] == ("post", "/v1/subscribers/{id}/rotate-secret")
    assert found["listEventTypes"] == ("get", "/v1/event-types")
    assert found["redeliverDeliveries"] == ("post", "/v1/deliveries/redeliver")
    assert found["redeliverDelivery"] == ("post", "/v1/deliveries/{id}/redeliver")
    public = [path for _, path, operation in operations(document) if "security" in operation]
    assert (public, document["security"]) == (["/openapi.json"], [{"token": []}])
    for method, path, operation in operations(document):
        statuses = set(operation["responses"])
        assert statuses >= ({"422"} if path == "/openapi.json" else {"401", "422", "429", "503"})
        assert ("404" in statuses) >= ("{" in path), (method, path)
        assert ({"400", "413", "415"} <= statuses) == ("requestBody" in operation), (method, path)
        assert {one["name"] for one in operation.get("parameters", ()) if one.get("in") == "path"} == set(
            re.findall(r"\{(\w+)\}", path)
        )


def test_there_is_a_webhook_for_every_event_type(document: dict[str, Any]) -> None:
    """With the headers that Standard Webhooks asks for, in both formats; an example of one type fits no other."""
    assert list(document["webhooks"]) == list(catalogue())
    for name, item in document["webhooks"].items():
        operation = item["post"]
        refs = [one["$ref"].rpartition("/")[2] for one in operation["parameters"]]
        headers = {document["components"]["parameters"][ref]["name"] for ref in refs}
        assert headers >= {"webhook-id", "webhook-timestamp", "webhook-signature"}
        content = operation["requestBody"]["content"]
        assert content.keys() == {"application/json", "application/cloudevents+json"}
        other = document["webhooks"]["lab.completed" if name != "lab.completed" else "lab.started"]["post"]
        for media_type, media in content.items():
            example = other["requestBody"]["content"][media_type]["example"]
            assert not validator(document, media["schema"]).is_valid(example)


def test_the_patterns_are_those_that_match() -> None:
    """The enumeration holds what a subscription may say: whatever else is put together of segments matches nothing."""
    listed = set(patterns())
    segments = {"*", "x", *(part for name in catalogue() for part in name.split("."))}
    tried = segments | {f"{one}.{two}" for one in segments for two in segments}
    tried |= {f"{one}.{two}.{three}" for one in ("*", "lab", "relay") for two in segments for three in segments}
    assert {one for one in tried | listed if covers_any(one)} == listed


async def test_answers_are_what_their_schemas_say(redis_client: Redis, document: dict[str, Any]) -> None:
    """A subscriber that was registered, changed and rotated, as it is shown, lacks no field and has no other."""
    components = document["components"]["schemas"]
    async with admin_api(redis_client) as api:
        created = await api.subscribe(headers={"X-Tenant": "a"}, filter={"lab_profile_ids": [5522, "7"]})
        patch = {"filter": {"from": ["Incomplete"]}, "signature": "v1a", "headers": {"X-Tenant": None}}
        validator(document, components["SubscriberPatch"]).validate(patch)
        changed = (await api.call("PATCH", f"/v1/subscribers/{created['id']}", patch)).body
        for name, shown in (("SecretSubscriber", created), ("PatchedSubscriber", changed)):
            validator(document, {**components[name], "additionalProperties": False}).validate(shown)
        assert created.keys() == components["SecretSubscriber"]["properties"].keys()


def test_schemas_refuse_what_the_api_refuses(document: dict[str, Any]) -> None:
    """What is said of bodies is not laxer than what is done with them."""
    url = {"url": "https://lms.example.org/"}
    components = document["components"]["schemas"]
    for name, body in (
        ("NewSubscriber", {}),
        ("NewSubscriber", {**url, "colour": "red"}),
        ("NewSubscriber", {**url, "event_types": ["labs.*"]}),
        ("NewSubscriber", {**url, "event_types": []}),
        ("NewSubscriber", {**url, "headers": {"a b": "c"}}),
        ("NewSubscriber", {**url, "headers": {"A": "é"}}),
        ("NewSubscriber", {**url, "secret": "whsec_short"}),
        ("NewSubscriber", {**url, "signature": "v1a", "secret": "whsec_" + "A" * 32}),
        ("NewSubscriber", {**url, "timeout_s": None}),
        ("SubscriberPatch", {"url": None}),
        ("SubscriberPatch", {"id": "sub_1"}),
        ("RedeliverIn", {}),
        ("RedeliverIn", {"subscriber_id": None}),
        ("RedeliverIn", {"all": False}),
        ("RotateIn", {"overlap_s": -1}),
    ):
        assert not validator(document, components[name]).is_valid(body), (name, body)


async def test_the_files_are_kept_by_browsers_and_asked_for_again(redis_client: Redis) -> None:
    """An ETag each, 304 to whoever has it, HEAD; types are not sniffed; a file that is not the page's is not served."""
    async with admin_api(redis_client) as api:
        for path in ("/openapi.json", "/docs", "/docs/init.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"):
            async with api.http.get(path) as first:
                assert (first.status, first.headers["Cache-Control"]) == (200, "no-cache"), path
                assert first.headers["X-Content-Type-Options"] == "nosniff"
                assert first.headers["Referrer-Policy"] == "no-referrer"
            async with api.http.get(path, headers={"If-None-Match": first.headers["ETag"]}) as again:
                assert (again.status, again.headers["ETag"], await again.read()) == (304, first.headers["ETag"], b"")
            async with api.http.head(path) as head:
                assert (head.status, head.headers["Content-Length"]) == (200, first.headers["Content-Length"])
        for path in ("/docs/index.html", "/docs/swagger-editor.js", "/docs/..%2Fapp.py"):
            async with api.http.get(path) as missing:
                assert missing.status == 404, path


async def test_the_page_shows_the_api_and_talks_to_nobody_else(redis_client: Redis) -> None:
    """Pages that need a cloud (seen in several).

    In a real browser: every operation is listed, one can be tried out with a token, and the policy is not broken.
    """
    async with admin_api(redis_client) as api, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            await _look_at(api, await browser.new_page())
        finally:
            await browser.close()


async def _look_at(api: Api, page: Any) -> None:
    said: list[str] = []
    asked: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        said.append(message.text)

    def on_request(request: Request) -> None:
        asked.append(request.url)

    page.on("console", on_console)
    page.on("request", on_request)
    origin = str(api.http.make_url("")).rstrip("/")
    await page.goto(f"{origin}/docs")
    await page.wait_for_selector("#operations-subscribers-listSubscribers")
    operations_shown = await page.locator(".opblock").count()
    assert operations_shown >= sum(1 for one in api.http.app[ROUTES] if one.documented)
    await page.click(".auth-wrapper .authorize")
    await page.fill("#auth-bearer-value", TOKEN)
    await page.click(".auth-btn-wrapper .authorize")
    await page.click(".auth-btn-wrapper .btn-done")
    await page.click("#operations-subscribers-listSubscribers .opblock-summary-control")
    async with page.expect_response(f"{origin}/v1/subscribers*") as answer:
        await page.click("#operations-subscribers-listSubscribers .execute")
    assert (await answer.value).status == 200
    assert await page.evaluate("localStorage.length") == 0
    await wait_until(lambda: any("/v1/subscribers" in url for url in asked))
    assert {url for url in asked if not url.startswith((f"{origin}/", "data:"))} == set()
    assert said == []
