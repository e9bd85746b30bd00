"""The Learnosity client against a scripted server: what it signs and sends, how it pages, every shape of failure."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest
from aiohttp import web
from learnosity_sdk.request import Init
from structlog.testing import capture_logs

from relay.core.errors import ConfigError, FetchError
from relay.core.model import Family
from relay.sources import learnosity
from relay.sources.base import Page
from relay.sources.learnosity import LearnositySource
from tests.service.upstreams import NOW, ScriptedUpstream, fault_of, pages, reply, scripted_upstream

NOW_S = int(NOW.timestamp())
SECOND = NOW.replace(microsecond=0)
BEFORE = SECOND - timedelta(seconds=10)
SECRET = "74c5fd430cf1242a527f6223aebd42d30464be22"
TOKEN = "1469536296.323078"
ONE = b'{"session_id":"a","session_duration":7.0}'
TWO = b'{"session_id":"b", "user_id":"\xc3\xbc"}'


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """Give each test its own server."""
    async with scripted_upstream(page_of) as server:
        yield server


def source_of(upstream: ScriptedUpstream, **options: Any) -> LearnositySource:
    """Build a source that asks this server."""
    values: dict[str, Any] = {
        "family": cast("Family", None),
        "session": upstream.session,
        "clock": upstream.clock,
        "base_url": upstream.url + "/",
        "version": "v2025.1.LTS",
        "consumer_key": "yis0TYCu7U9V4o7M",
        "consumer_secret": SECRET,
        "domain": "lms.example.org",
    }
    return LearnositySource("learnosity", **{**values, **options})


def requests(upstream: ScriptedUpstream) -> list[dict[str, Any]]:
    """Read the request packets so far."""
    return [json.loads(seen.form["request"]) for seen in upstream.requests]


def page_of(*rows: bytes, token: object = TOKEN, **meta: Any) -> web.Response:
    """Build a successful page; by default it has a token, as even an empty one does."""
    head = {"status": True, "timestamp": NOW_S, "next": token, "records": len(rows), **meta}
    return reply(b'{"meta":' + json.dumps(head).encode() + b',"data":[' + b",".join(rows) + b"]}")


def failure(code: object, status: int = 200, **headers: str) -> web.Response:
    """Build the vendor's error body."""
    meta = {"status": False, "timestamp": NOW_S, "code": code, "message": f"no {SECRET}", "request_uuid": "u"}
    return reply(json.dumps({"meta": meta}).encode(), status, **headers)


async def test_a_poll_pages_to_the_empty_page(upstream: ScriptedUpstream) -> None:
    """The token is echoed with the original parameters; the same token on an empty page is the end, not a circle."""
    upstream.answers = [page_of(ONE, token="10.000001"), page_of(TWO, token="11.000001"), page_of(token="11.000001")]
    found = await pages(source_of(upstream), BEFORE)
    assert [page.rows for page in found] == [[ONE], [TWO], []]
    assert [page.watermark for page in found] == [None, None, SECOND - timedelta(seconds=2)]
    first = {"sort": "asc", "mintime": NOW_S - 130, "maxtime": NOW_S - 2, "limit": 50}
    assert requests(upstream) == [first, {**first, "next": "10.000001"}, {**first, "next": "11.000001"}]
    assert {(seen.method, seen.path) for seen in upstream.requests} == {("POST", "/v2025.1.LTS/sessions/statuses")}


async def test_a_page_without_a_token_is_the_last(upstream: ScriptedUpstream) -> None:
    """Then its rows and the watermark come together."""
    upstream.answers = [page_of(ONE, token=None)]
    assert await pages(source_of(upstream), BEFORE) == [Page([ONE], watermark=SECOND - timedelta(seconds=2))]
    assert len(upstream.requests) == 1


async def test_a_first_poll_looks_back_and_is_backfill(upstream: ScriptedUpstream) -> None:
    """Seven days by default; the silent baseline is the poller's decision."""
    (page,) = await pages(source_of(upstream), None)
    assert page.backfill
    assert requests(upstream)[0]["mintime"] == NOW_S - 7 * 86400


async def test_session_metadata_is_included_on_every_page(upstream: ScriptedUpstream) -> None:
    """Only when it is configured."""
    upstream.answers = [page_of(ONE)]
    await pages(source_of(upstream, session_metadata=["class", "cours\u00e9"]), BEFORE)
    include = {"sessions.session_metadata": ["class", "cours\u00e9"]}
    assert [request["include"] for request in requests(upstream)] == [include] * 2


async def test_the_official_sdk_reproduces_every_signature(upstream: ScriptedUpstream) -> None:
    """Each page is signed afresh with the clock's time, over the very bytes that were sent."""
    upstream.step_s = 60
    upstream.answers = [page_of(ONE)]
    await pages(source_of(upstream, session_metadata=["cours\u00e9"]), BEFORE)
    for seen, stamp in zip(upstream.requests, ["20261121-1700", "20261121-1701"], strict=True):
        form, headers = seen.form, seen.headers
        security = json.loads(form["security"])
        signature = security.pop("signature")
        assert security == {
            "consumer_key": "yis0TYCu7U9V4o7M",
            "domain": "lms.example.org",
            "timestamp": stamp,
        }
        assert form["action"] == "get"
        again = Init("data", security, SECRET, json.loads(form["request"]), "get")
        assert again.request_string == form["request"]
        assert again.security["signature"] == signature
        assert headers["X-Learnosity-Consumer"] == "yis0TYCu7U9V4o7M"
        assert headers["X-Learnosity-Action"] == "get_/sessions/statuses"
        assert headers["X-Learnosity-SDK"].startswith("Python:0.")
        assert headers["Content-Type"].startswith("application/x-www-form-urlencoded")


async def test_the_window_follows_the_servers_clock(upstream: ScriptedUpstream) -> None:
    """The first answer teaches the offset; a watermark never lies ahead of what that server had written."""
    upstream.answers = [page_of(timestamp=NOW_S - 90), page_of(timestamp=NOW_S - 90)]
    source = source_of(upstream)
    (first,) = await pages(source, BEFORE - timedelta(seconds=100))
    assert first.watermark == SECOND - timedelta(seconds=92)
    await pages(source, first.watermark)
    assert [request["maxtime"] for request in requests(upstream)] == [NOW_S - 2, NOW_S - 92]


async def test_the_watermark_is_fixed_by_the_first_answer(upstream: ScriptedUpstream) -> None:
    """However long the sweep takes, what was written meanwhile belongs to the next window."""
    upstream.answers = [
        page_of(ONE, token="1", timestamp=NOW_S - 90),
        page_of(TWO, token="2", timestamp=NOW_S - 60),
        page_of(timestamp=NOW_S - 30),
    ]
    found = await pages(source_of(upstream), BEFORE - timedelta(seconds=100))
    assert found[-1].watermark == SECOND - timedelta(seconds=92)


async def test_a_watermark_never_goes_back(upstream: ScriptedUpstream) -> None:
    """A server clock behind the watermark (another replica's view of it) does not undo what was read."""
    upstream.answers = [page_of(timestamp=NOW_S - 300)]
    (page,) = await pages(source_of(upstream), BEFORE)
    assert page.watermark == BEFORE


@pytest.mark.parametrize("token", [1469536296.323078, TOKEN])
async def test_the_token_keeps_its_digits(upstream: ScriptedUpstream, token: object) -> None:
    """Number or string, it is echoed as the string of what was written."""
    upstream.answers = [page_of(ONE, token=token)]
    await pages(source_of(upstream), BEFORE)
    assert requests(upstream)[1]["next"] == TOKEN


async def test_a_token_longer_than_a_float_is_echoed_exactly(upstream: ScriptedUpstream) -> None:
    """A number of 20 digits would not survive being parsed."""
    meta = b'{"status":true,"timestamp":%d,"next":12345678901234567890.123456}' % NOW_S
    upstream.answers = [reply(b'{"meta":' + meta + b',"data":[' + ONE + b"]}")]
    await pages(source_of(upstream), BEFORE)
    assert requests(upstream)[1]["next"] == "12345678901234567890.123456"


async def test_a_circle_of_tokens_with_rows_is_an_error(upstream: ScriptedUpstream) -> None:
    """It ends at once instead of reading the same pages for ever, and hands out no watermark."""
    upstream.answers = [page_of(ONE, token=token) for token in ("1", "2", "1")]
    assert (await fault_of(source_of(upstream), SECRET)).reason == "upstream_error"
    assert len(upstream.requests) == 3


async def test_pages_without_end_are_an_error(upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever new tokens end at a bound too."""
    monkeypatch.setattr(learnosity, "MAX_PAGES", 4)
    upstream.answers = [page_of(ONE, token=str(number)) for number in range(9)]
    assert (await fault_of(source_of(upstream), SECRET)).reason == "upstream_error"
    assert len(upstream.requests) == 4


async def test_a_partial_poll_yields_pages_but_no_watermark(upstream: ScriptedUpstream) -> None:
    """A fault on the second page leaves the first one, and nothing that could advance."""
    upstream.answers = [page_of(ONE), failure(10000, 500)]
    poll = source_of(upstream).poll(BEFORE)
    assert await anext(poll) == Page([ONE])
    with pytest.raises(FetchError):
        await anext(poll)


async def test_too_large_an_answer_is_asked_for_in_smaller_pages(upstream: ScriptedUpstream) -> None:
    """The limit is halved for the rest of the poll; the next one starts with whole pages again."""
    upstream.answers = [failure(20027), failure(20027, 400), page_of(ONE), page_of()]
    source = source_of(upstream)
    found = await pages(source, BEFORE)
    await pages(source, BEFORE)
    assert [request["limit"] for request in requests(upstream)] == [50, 25, 12, 12, 50]
    assert found[-1].watermark


async def test_too_large_a_single_row_is_an_error(upstream: ScriptedUpstream) -> None:
    """Less than one row cannot be asked for."""
    upstream.answers = [failure(20027) for _ in range(6)]
    assert (await fault_of(source_of(upstream), SECRET)).reason == "too_large"
    assert [request["limit"] for request in requests(upstream)] == [50, 25, 12, 6, 3, 1]


FAILURES: Sequence[tuple[web.Response, str, str]] = [
    (failure(10000, 500), "upstream_error", "10000"),
    (failure(41000, 400), "refused", "41000"),
    (failure(41001, 400), "refused", "consumer_key"),
    (failure(41002, 403), "refused", "consumer_key"),
    (failure(41003, 403), "refused", "consumer_secret"),
    (failure(41004, 403), "refused", "clock"),
    (failure(41005, 403), "refused", "domain"),
    (failure(41008, 403), "refused", "disabled"),
    (failure(41003), "refused", "consumer_secret"),
    (failure(20004, 400), "upstream_error", "session_metadata"),
    (failure(42001, 410), "upstream_error", "version"),
    (failure(43000, 400), "upstream_error", "version"),
    (failure(99999), "upstream_error", "99999"),
    (failure(None), "upstream_error", "without a code"),
    (failure("secret"), "upstream_error", "without a code"),
    (failure(99999, 403), "refused", "403"),
    (failure(99999, 502), "http_status", "502"),
    (reply(b"Version not found", 404), "http_status", "version"),
    (reply(b"", 301, Location="https://127.0.0.1:1/"), "http_status", "redirect"),
    (reply(b"<html>", 503), "http_status", "503"),
    (reply(b"<html>"), "not_json", "JSON"),
    (reply(b""), "not_json", "JSON"),
    (page_of(b'{"session_duration": ,"status":"Incomplete"}'), "not_json", "JSON"),
    (reply(b"[]"), "upstream_error", "shape"),
    (reply(b'{"data":[]}'), "upstream_error", "shape"),
    (reply(b'{"meta":{"status":true,"timestamp":1}}'), "upstream_error", "shape"),
    (page_of(status="true"), "upstream_error", "without a code"),
    (page_of(timestamp=None), "upstream_error", "shape"),
    (page_of(timestamp=NOW_S * 1000), "upstream_error", "clock"),
]


@pytest.mark.parametrize(("answer", "reason", "word"), FAILURES)
async def test_every_failure_has_its_reason(
    upstream: ScriptedUpstream, answer: web.Response, reason: str, word: str
) -> None:
    """By the vendor's code if it has one, else by status; the vendor's own text is never repeated."""
    upstream.answers = [answer]
    error = await fault_of(source_of(upstream), SECRET)
    assert error.reason == reason
    assert word in str(error)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("answer", "after_s"),
    [(failure(42000, 429), 5.0), (failure(42000), 5.0), (failure(42000, 429, Retry_After="9"), 9.0)],
)
async def test_a_throttled_poll_says_how_long_to_wait(
    upstream: ScriptedUpstream, answer: web.Response, after_s: float
) -> None:
    """The rate's own five seconds, unless the answer names a time."""
    upstream.answers = [answer]
    error = await fault_of(source_of(upstream), SECRET)
    assert (error.reason, error.retry_after_s) == ("rate_limited", after_s)


async def test_the_answering_version_is_logged_once(upstream: ScriptedUpstream) -> None:
    """A version that moves under the configuration shows in the log; the same one does not fill it."""
    versions = {"requested": "v2025.1.LTS", "concrete": "v2025.1.7", "odd": 3}
    upstream.answers = [page_of(ONE, versions=versions), page_of(versions=versions)]
    with capture_logs() as logs:
        await pages(source_of(upstream), BEFORE)
    (entry,) = logs
    assert entry["versions"] == {"requested": "v2025.1.LTS", "concrete": "v2025.1.7"}


@pytest.mark.parametrize("setting", ["consumer_key", "consumer_secret", "domain"])
@pytest.mark.parametrize("value", ["", "x\n"])
async def test_an_unusable_credential_is_a_configuration_error(
    upstream: ScriptedUpstream, setting: str, value: str
) -> None:
    """It is named at once instead of being refused at every poll."""
    with pytest.raises(ConfigError, match=setting):
        source_of(upstream, **{setting: value})
