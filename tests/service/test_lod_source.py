"""The LOD client against scripted servers: windows on the wire, every shape of failure, nothing secret said."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from relay.core.errors import ConfigError, FetchError
from relay.core.model import Family
from relay.sources.base import Page
from relay.sources.http import Pacer
from relay.sources.lod import LodSource
from tests.service.upstreams import NOW, FakeClock, ScriptedUpstream, fault_of, pages, reply, scripted_upstream

KEY = "7f1b9e0a-SECRET-KEY"
ROWS = [b'{"LabInstanceId": 349744, "ExamScore":5.00000}', b'{"LabInstanceId":2,"New":[1, 2]}']
GOOD = b'{"Results":[' + b",".join(ROWS) + b'],"Status":1,"Error":null}'


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """Give each test its own server."""
    async with scripted_upstream(lambda: reply(GOOD)) as server:
        yield server


def source_of(upstream: ScriptedUpstream, **options: Any) -> LodSource:
    """Build a source that asks this server; its pace is not what these tests are about."""
    source = LodSource(
        "lod",
        family=cast("Family", None),
        session=upstream.session,
        clock=upstream.clock,
        base_url=f"{upstream.url}/api/v3/",
        api_key=KEY,
        **options,
    )
    source._pacer = Pacer(1000, 1.0)
    return source


def minutes(upstream: ScriptedUpstream) -> list[str]:
    """List the windows of the LatestResults requests so far."""
    return [seen.query["minutes"] for seen in upstream.requests if seen.path == "/api/v3/LatestResults/"]


async def test_first_poll_asks_for_seven_days_and_hands_out_its_start(upstream: ScriptedUpstream) -> None:
    """Rows come through byte for byte, the key travels in its header only, the watermark is the poll's start."""
    (page,) = await pages(source_of(upstream), None)
    assert page == Page(ROWS, watermark=NOW, backfill=True)
    (seen,) = upstream.requests
    assert (seen.method, seen.path, seen.query) == ("GET", "/api/v3/LatestResults/", {"minutes": "10080"})
    assert seen.headers["api_key"] == KEY
    assert seen.headers["User-Agent"].startswith("relay/")


async def test_the_watermark_is_the_moment_at_which_the_poll_started(upstream: ScriptedUpstream) -> None:
    """Time that passes while the answer is on its way belongs to the next window."""

    async def slow(_: web.Request) -> web.Response:
        upstream.clock.advance(25)
        return reply(GOOD)

    upstream.answers = [slow]
    (page,) = await pages(source_of(upstream), NOW - timedelta(seconds=30))
    assert page == Page(ROWS, watermark=NOW)


async def test_minutes_follow_the_watermark(upstream: ScriptedUpstream) -> None:
    """Normal poll, after an outage, after a longer one: time since plus overlap, in minutes."""
    source = source_of(upstream)
    for ago in (timedelta(seconds=30), timedelta(hours=2), timedelta(days=6)):
        await pages(source, NOW - ago)
    assert minutes(upstream) == ["16", "135", "8655"]


async def test_an_outage_over_seven_days_is_walked_before_the_present(upstream: ScriptedUpstream) -> None:
    """Results slices come first and as backfill, the gap on the first page, the watermark on the last only."""
    since = NOW - timedelta(days=17)
    found = await pages(source_of(upstream), since)
    assert [seen.path for seen in upstream.requests] == ["/api/v3/Results/"] * 2 + ["/api/v3/LatestResults/"]
    spans = [(int(seen.query["start"]), int(seen.query["end"])) for seen in upstream.requests[:2]]
    assert spans[0][0] == int(since.timestamp()) - 900
    assert spans[1][0] < spans[0][1]
    assert spans[1][1] > int((NOW - timedelta(days=7)).timestamp())
    assert all(end - start <= 7 * 86400 for start, end in spans)
    assert [page.gap for page in found] == [(since, NOW - timedelta(days=7)), None, None]
    assert [page.watermark for page in found] == [None, None, NOW]
    assert all(page.backfill for page in found)


async def test_a_partial_walk_yields_pages_but_no_watermark(upstream: ScriptedUpstream) -> None:
    """A fault in the middle leaves the pages that came, and nothing that could advance."""
    upstream.answers = [reply(GOOD), reply("", 503)]
    source = source_of(upstream)
    poll = source.poll(NOW - timedelta(days=17))
    page = await anext(poll)
    assert (page.rows, page.watermark) == (ROWS, None)
    with pytest.raises(FetchError):
        await anext(poll)


async def test_every_sweep_s_one_poll_asks_for_everything(upstream: ScriptedUpstream) -> None:
    """A late score need not bring a row back into a short window, so the widest is asked for now and then."""
    source = source_of(upstream, sweep_s=60)
    for _ in range(5):
        await pages(source, upstream.clock.at - timedelta(seconds=30))
        upstream.clock.advance(30)
    assert minutes(upstream) == ["16", "16", "10080", "16", "10080"]


async def test_a_failing_sweep_does_not_starve_the_ordinary_polls(upstream: ScriptedUpstream) -> None:
    """The poll after a failed sweep is an ordinary one again."""
    source = source_of(upstream, sweep_s=60)
    await pages(source, NOW)
    upstream.clock.advance(60)
    upstream.answers = [reply("", 504)]
    await fault_of(source, KEY)
    (page,) = await pages(source, upstream.clock.at)
    assert minutes(upstream) == ["15", "10080", "15"]
    assert not page.backfill


async def test_sweeps_can_be_turned_off(upstream: ScriptedUpstream) -> None:
    """Zero means never."""
    source = source_of(upstream, sweep_s=0)
    for _ in range(3):
        await pages(source, upstream.clock.at)
        upstream.clock.advance(1e6)
    assert minutes(upstream) == ["15"] * 3


@pytest.mark.parametrize(
    ("answer", "reason", "word"),
    [
        (reply('{"Error":"Invalid integration key","Status":1}'), "refused", "underscores"),
        (reply('{"Error":"API Access has Expired","Status":0}'), "refused", "expired"),
        (reply("Forbidden", 403), "refused", "underscores"),
        (reply("Unauthorized", 401), "refused", "underscores"),
        (reply('{"Error":"Timeframe cannot exceed 7 days","Status":0}'), "upstream_error", "Error"),
        (reply(f'{{"Error":"no such key {KEY}","Status":0}}'), "upstream_error", "Error"),
        (reply('{"Results":[],"Status":1,"Error":""}'), "upstream_error", "Error"),
        (reply('{"Results":[],"Status":0,"Error":null}'), "upstream_error", "Status"),
        (reply('{"Results":[],"Error":null}'), "upstream_error", "Status"),
        (reply('{"Message":"An error has occurred."}'), "upstream_error", "Status"),
        (reply('{"Status":1,"Error":null}'), "upstream_error", "Results"),
        (reply('{"Results":null,"Status":1,"Error":null}'), "upstream_error", "Results"),
        (reply('{"Results":{},"Status":1,"Error":null}'), "upstream_error", "shape"),
        (reply("[]"), "upstream_error", "shape"),
        (reply("<html><body>maintenance</body></html>"), "not_json", "JSON"),
        (reply(""), "not_json", "JSON"),
        (reply(GOOD[:-20]), "not_json", "JSON"),
        (reply(b'{"Results":[{"LabInstanceId":1,"End": ,}],"Status":1}'), "not_json", "JSON"),
        (reply(b'{"Results":' + b"[" * 100_000), "not_json", "JSON"),
        (reply("<html>", 503), "http_status", "503"),
        (reply("", 404), "http_status", "base_url"),
        (reply("", 301, Location="http://127.0.0.1:1/"), "http_status", "redirect"),
        (reply("", 204), "http_status", "204"),
    ],
)
async def test_every_failure_has_its_reason(
    upstream: ScriptedUpstream, answer: web.Response, reason: str, word: str
) -> None:
    """Whatever comes instead of rows is classified, says what to do, and repeats nothing of what came."""
    upstream.answers = [answer]
    error = await fault_of(source_of(upstream), KEY)
    assert error.reason == reason
    assert word in str(error)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("status", "value", "reason", "expected"),
    [
        (429, "7", "rate_limited", 7.0),
        (429, "Sat, 21 Nov 2026 17:01:30 GMT", "rate_limited", 59.75),
        (429, "", "rate_limited", None),
        (503, "120", "http_status", 120.0),
    ],
)
async def test_retry_after_is_handed_on(
    upstream: ScriptedUpstream, status: int, value: str, reason: str, expected: float | None
) -> None:
    """Seconds and dates are both understood."""
    upstream.answers = [reply("", status, Retry_After=value)]
    error = await fault_of(source_of(upstream), KEY)
    assert (error.reason, error.retry_after_s) == (reason, expected)


async def test_rows_that_are_not_objects_are_handed_on(upstream: ScriptedUpstream) -> None:
    """Judging a row is the family's business: one bad row must not cost the others."""
    upstream.answers = [reply(b'{"Results":[7, null ,"x",{"LabInstanceId":1}],"Status":1,"Error":null}')]
    (page,) = await pages(source_of(upstream), NOW)
    assert [json.loads(row) for row in page.rows] == [7, None, "x", {"LabInstanceId": 1}]


async def test_a_large_body_leaves_the_event_loop_free(upstream: ScriptedUpstream) -> None:
    """Seven busy days are decoded in a thread; the rows are complete."""
    rows = [json.dumps({"LabInstanceId": number, "Padding": "x" * 600}).encode() for number in range(4000)]
    upstream.answers = [reply(b'{"Results":[' + b",".join(rows) + b'],"Status":1,"Error":null}')]
    (page,) = await pages(source_of(upstream), NOW)
    assert page.rows == rows


async def test_only_one_request_is_in_flight(upstream: ScriptedUpstream) -> None:
    """Two polls at once (a poll asked for by hand) go one after the other."""
    busy = most = 0

    async def counting(_: web.Request) -> web.Response:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.01)
        busy -= 1
        return reply(GOOD)

    upstream.answers = [counting] * 3
    source = source_of(upstream)
    await asyncio.gather(*(pages(source, NOW) for _ in range(3)))
    assert most == 1


@pytest.mark.parametrize("key", ["", "key\n", "kéy", "a\x00b"])
async def test_a_key_that_no_header_can_carry_is_a_configuration_error(key: str) -> None:
    """The message names the setting and not its value."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ConfigError, match="api_key") as caught:
            LodSource("lod", family=cast("Family", None), session=session, clock=FakeClock(), base_url="", api_key=key)
    assert not key or key not in str(caught.value)
