"""The simulated Learnosity's doorkeeper over real HTTP: paths, versions, form bodies and the security packet."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import pytest

from relay.sandbox import LEARNOSITY_VERSION
from relay.sandbox.learnosity_security import ERRORS
from tests.service.sandbox_client import DROP, NOW, LearnosityClient, resealed, sandboxed, signed

FORM_IN_NO_CHARSET = "application/x-www-form-urlencoded; charset=nope"


@pytest.fixture
async def client() -> AsyncIterator[LearnosityClient]:
    """A sandbox whose time stands still, and a client of it."""
    async with sandboxed(LearnosityClient) as client:
        yield client


@pytest.mark.parametrize(
    ("code", "form"),
    [
        (41000, {"request": "{}", "action": "get"}),
        (41000, {**signed({}), "security": "not json"}),
        (41000, {**signed({}), "security": "[]"}),
        (41000, resealed(signed({}), consumer_key=DROP)),
        (41000, resealed(signed({}), signature=DROP)),
        (41000, resealed(signed({}), secret="x")),
        (41001, resealed(signed({}), domain="")),
        (41001, resealed(signed({}), consumer_key="k" * 256)),
        (41002, signed({}, consumer_key="somebody")),
        (41004, signed({}, timestamp=f"{NOW - timedelta(hours=3, minutes=1):%Y%m%d-%H%M}")),
        (41004, signed({}, timestamp=f"{NOW + timedelta(hours=3, minutes=1):%Y%m%d-%H%M}")),
        (41004, signed({}, timestamp="today")),
        (41005, signed({}, domain="elsewhere.example")),
        (41006, signed({}, expires="later")),
        (41007, signed({}, expires=f"{NOW - timedelta(minutes=1):%Y%m%d-%H%M}")),
        (41003, signed({}, secret="wrong")),
        (41003, {**signed({"limit": 5}), "request": '{"limit": 5}'}),
        (41003, {**signed({}), "action": "set"}),
        (41003, resealed(signed({}, user_id="u"), user_id="v")),
    ],
)
async def test_security_errors(client: LearnosityClient, code: int, form: dict[str, str]) -> None:
    """Each fault of the security packet gets its own code and the HTTP status that belongs to it."""
    assert await client.code(form) == (ERRORS[code][0], code)


async def test_security_is_checked_in_the_vendors_order(client: LearnosityClient) -> None:
    """Of several faults the first in the order length, consumer, timestamp, domain, expires, signature is named."""
    faults = {
        "user_id": ("u" * 256, 41001),
        "consumer_key": ("somebody", 41002),
        "timestamp": ("20200101-0000", 41004),
        "domain": ("elsewhere.example", 41005),
        "expires": ("20200101-0000", 41007),
    }
    wrong = {name: value for name, (value, _) in faults.items()}
    for name, (_, code) in faults.items():
        assert (await client.code(signed({}, secret="wrong", **wrong)))[1] == code
        del wrong[name]
    assert (await client.code(signed({}, secret="wrong")))[1] == 41003


async def test_a_disabled_consumer_is_refused(client: LearnosityClient) -> None:
    """A consumer can be disabled with either of the vendor's codes."""
    for code in (41008, 41009):
        client.sandbox.learnosity.disabled = code
        assert await client.code(signed({})) == (403, code)


async def test_optional_security_and_odd_characters_are_signed(client: LearnosityClient) -> None:
    """`expires`, `user_id` and text beyond ASCII are part of the signature as they were sent."""
    form = signed({"user_id": ["Zoë_木"]}, expires=f"{NOW + timedelta(hours=1):%Y%m%d-%H%M}", user_id="ü")
    assert (await client.post(form))[0] == 200


async def test_multipart_is_as_good_as_urlencoded(client: LearnosityClient) -> None:
    """The same three fields are understood in a multipart body."""
    client.sandbox.learnosity.put("s-1")
    with aiohttp.MultipartWriter("form-data") as writer:
        for name, text in signed({"user_id": ["learner-1"]}).items():
            writer.append(text).set_content_disposition("form-data", name=name)
    status, body = await client.post(writer)
    assert (status, json.loads(body)["meta"]["records"]) == (200, 1)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "text/plain", "multipart/form-data", "multipart/form-data; boundary=x", FORM_IN_NO_CHARSET],
)
async def test_a_body_that_is_no_form_lacks_security(client: LearnosityClient, content_type: str) -> None:
    """A JSON body, or a form that cannot be read, is a request without security."""
    body = json.dumps(signed({})).encode()
    assert await client.code(body, headers={"Content-Type": content_type}) == (400, 41000)


async def test_the_path_and_the_method_are_checked(client: LearnosityClient) -> None:
    """Unknown versions are plain 404, old ones have codes, GET is 405, another endpoint is not found."""
    form = signed({})
    for version in ("", "/latest", "/v2025", "/v2031.1.LTS"):
        status, body = await client.post(form, path=f"{version}/sessions/statuses")
        assert (status, body[:3]) == (404, b"404")
    assert await client.code(form, path="/v2019.2.LTS/sessions/statuses") == (410, 42001)
    assert await client.code(form, path="/v1/sessions/statuses") == (400, 43000)
    assert await client.code(form, path=f"/{LEARNOSITY_VERSION}/sessions/nothing") == (404, 20012)
    assert (await client.post(None, method="GET"))[0] == 405
    assert (await client.post(form, path="/latest-lts/sessions/statuses"))[0] == 200
