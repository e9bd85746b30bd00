"""Both clients against the simulated upstreams: what happens there is seen, whatever the paging and the windows do."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import aiohttp
import pytest

from relay.core.model import Family
from relay.sandbox import (
    LEARNOSITY_CONSUMER_KEY,
    LEARNOSITY_CONSUMER_SECRET,
    LEARNOSITY_DOMAIN,
    LEARNOSITY_VERSION,
    LOD_API_KEY,
    Sandbox,
)
from relay.sources.base import Source
from relay.sources.http import Pacer
from relay.sources.learnosity import LearnositySource
from relay.sources.lod import LodSource
from tests.service.upstreams import NOW, FakeClock, fault_of

WEEK_S = 7 * 86400


class WrongClock(FakeClock):
    """The sandbox's clock as a machine sees it that is off by some seconds."""

    def __init__(self, sandbox: Sandbox, ahead_s: float) -> None:
        super().__init__()
        self._sandbox = sandbox
        self._ahead = timedelta(seconds=ahead_s)

    def now(self) -> datetime:
        """Return the wrong time."""
        return self._sandbox.clock.now() + self._ahead


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Give each test upstreams of its own."""
    running = await Sandbox.start(clock=FakeClock())
    yield running
    await running.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Share one session within a test."""
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def lod(sandbox: Sandbox, session: aiohttp.ClientSession) -> LodSource:
    """Poll the simulated LOD, faster than its real pace."""
    return lod_source(sandbox, session)


def lod_source(sandbox: Sandbox, session: aiohttp.ClientSession, **options: Any) -> LodSource:
    """Build a LOD client; options replace the right ones."""
    values = {"base_url": sandbox.lod_url, "api_key": LOD_API_KEY, "timeout_s": 0.15, **options}
    source = LodSource("lod", family=cast("Family", None), session=session, clock=sandbox.clock, **values)
    source._pacer = Pacer(1000, 1.0)
    return source


@pytest.fixture
def learnosity(sandbox: Sandbox, session: aiohttp.ClientSession) -> LearnositySource:
    """Poll the simulated Learnosity."""
    return learnosity_source(sandbox, session)


def learnosity_source(sandbox: Sandbox, session: aiohttp.ClientSession, **options: Any) -> LearnositySource:
    """Build a Learnosity client; options replace the right ones."""
    values: dict[str, Any] = {
        "family": cast("Family", None),
        "session": session,
        "clock": sandbox.clock,
        "base_url": sandbox.learnosity_url,
        "version": LEARNOSITY_VERSION,
        "consumer_key": LEARNOSITY_CONSUMER_KEY,
        "consumer_secret": LEARNOSITY_CONSUMER_SECRET,
        "domain": LEARNOSITY_DOMAIN,
        "timeout_s": 0.15,
    }
    return LearnositySource("learnosity", **{**values, **options})


async def poll(source: Source, watermark: datetime | None) -> tuple[dict[str, Any], datetime]:
    """Run one poll; return the newest row of each entity, and the watermark."""
    rows: dict[str, Any] = {}
    reached = None
    async for page in source.poll(watermark):
        for raw in page.rows:
            row = json.loads(raw)
            rows[str(row.get("LabInstanceId") or row.get("session_id"))] = row
        reached = page.watermark
    assert reached is not None
    return rows, reached


async def reason_of(source: Source) -> str:
    """Run a poll that must fail; return why."""
    secret = LOD_API_KEY if source.kind == "lod" else LEARNOSITY_CONSUMER_SECRET
    return (await fault_of(source, secret)).reason


async def test_a_lab_is_followed_from_start_to_end(sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
    """Each poll goes on from the last one's watermark and sees what started or ended since."""
    lod = lod_source(sandbox, session, sweep_s=0)
    rows, watermark = await poll(lod, None)
    assert rows == {}
    sandbox.lod.put(1, CompletionStatus=3)
    sandbox.advance(30)
    rows, watermark = await poll(lod, watermark)
    assert rows["1"]["CompletionStatus"] == 3
    sandbox.advance(1200)
    sandbox.lod.put(1, CompletionStatus=4, End="now")
    rows, watermark = await poll(lod, watermark)
    assert rows["1"]["CompletionStatus"] == 4
    assert watermark == sandbox.clock.now()
    assert [request.minutes for request in sandbox.lod.requests] == ["10080", "16", "35"]


async def test_a_score_that_comes_hours_later_is_seen_by_the_sweep(sandbox: Sandbox, lod: LodSource) -> None:
    """A score does not bring its row back into a short window; the widest one still shows it."""
    sandbox.lod.put(1, CompletionStatus=4, End="now")
    await poll(lod, None)
    sandbox.advance(5 * 3600)
    _, watermark = await poll(lod, sandbox.clock.now())  # the sweep that was due
    sandbox.lod.put(1, ExamScore=80)
    scores = []
    for _ in range(30):
        sandbox.advance(30)
        rows, watermark = await poll(lod, watermark)
        scores.append(rows.get("1", {}).get("ExamScore"))
    assert scores == [None] * 29 + [80]


async def test_labs_of_a_long_outage_are_found(sandbox: Sandbox, lod: LodSource) -> None:
    """A lab that began and ended twelve days ago, and one at the very edge of LatestResults, are not lost."""
    now_s = int(NOW.timestamp())
    for number, ago_s in enumerate((16 * 86400, 12 * 86400, 10 * 86400, WEEK_S + 5, WEEK_S - 5, 60), start=1):
        sandbox.lod.put(number, CompletionStatus=4, Start=now_s - ago_s, End=now_s - ago_s + 3)
    rows, _ = await poll(lod, NOW - timedelta(days=17))
    assert sorted(rows) == list("123456")


@pytest.mark.parametrize("with_401", [False, True])
async def test_a_refused_lod_key_is_refused_however_it_is_said(
    sandbox: Sandbox, session: aiohttp.ClientSession, *, with_401: bool
) -> None:
    """A wrong key and an expired consumer come as HTTP 200 or as 401."""
    sandbox.lod.refuse_with_401 = with_401
    assert await reason_of(lod_source(sandbox, session, api_key="wrong")) == "refused"
    sandbox.lod.expired = True
    assert await reason_of(lod_source(sandbox, session)) == "refused"


LOD_FAULTS = {
    "200_html": "not_json",
    "429": "rate_limited",
    "429_retry_after": "rate_limited",
    "500_html": "http_status",
    "503_html": "http_status",
    "empty_body": "not_json",
    "error_status_0": "upstream_error",
    "error_status_1": "upstream_error",
    "reset": "connect",
    "reset_body": "connect",
    "stall": "timeout",
    "stall_body": "timeout",
    "truncated": "not_json",
}


@pytest.mark.parametrize(("fault", "reason"), LOD_FAULTS.items())
async def test_every_lod_fault_is_classified_and_survived(
    sandbox: Sandbox, lod: LodSource, fault: str, reason: str
) -> None:
    """The poll after the fault goes on as if nothing had been."""
    sandbox.lod.put(1)
    # aiohttp asks once more if a GET's connection broke before the answer: a kept one may just have gone stale.
    sandbox.lod.fault_next(fault, times=2 if fault == "reset" else 1)
    assert await reason_of(lod) == reason
    rows, _ = await poll(lod, NOW)
    assert list(rows) == ["1"]


async def test_all_sessions_come_through_the_paging(sandbox: Sandbox, learnosity: LearnositySource) -> None:
    """Pages end where many sessions share one updated time, and none of them is lost or asked for twice."""
    for number in range(120):
        sandbox.learnosity.put(f"s{number}", updated_at=NOW - timedelta(seconds=60 + number // 70))
    rows, watermark = await poll(learnosity, None)
    assert len(rows) == 120
    assert watermark == datetime.fromtimestamp(int(NOW.timestamp() - 2), UTC)
    assert [request.code for request in sandbox.learnosity.requests] == [None] * 4
    assert sandbox.learnosity.requests[0].request.keys() >= {"sort", "mintime", "maxtime", "limit"}


@pytest.mark.parametrize("mutated_at_page", [1, 2, 3])
@pytest.mark.parametrize("inclusive", [True, False])
async def test_an_update_in_the_middle_of_a_sweep_is_not_missed(
    sandbox: Sandbox, learnosity: LearnositySource, mutated_at_page: int, *, inclusive: bool
) -> None:
    """A session that moves while its page is read or still to come shows its last state by the next poll."""
    sandbox.learnosity.inclusive = inclusive
    for number in range(120):
        sandbox.learnosity.put(f"s{number}", updated_at=NOW - timedelta(seconds=300 - number))

    def mutate(page_no: int) -> None:
        if page_no == mutated_at_page and sandbox.clock.now() == NOW:
            sandbox.advance(1)
            for number in (0, 60, 119):
                sandbox.learnosity.put(f"s{number}", status="Completed")

    sandbox.learnosity.on_page = mutate
    first, watermark = await poll(learnosity, NOW - timedelta(hours=1))
    sandbox.advance(30)
    second, _ = await poll(learnosity, watermark)
    assert {f"s{number}" for number in range(120)} == first.keys() | second.keys()
    assert {(first | second)[f"s{number}"]["status"] for number in (0, 60, 119)} == {"Completed"}


async def test_an_update_that_becomes_visible_late_is_not_missed(
    sandbox: Sandbox, learnosity: LearnositySource
) -> None:
    """The overlap covers a read lag that is longer than the settle time."""
    sandbox.learnosity.read_lag_s = 60
    sandbox.learnosity.put("late")
    watermark = NOW - timedelta(seconds=10)
    found = []
    for _ in range(8):
        sandbox.advance(10)
        rows, watermark = await poll(learnosity, watermark)
        found.append("late" in rows)
    assert found[-1]
    assert not found[0]


@pytest.mark.parametrize("ahead_s", [-600, 600])
async def test_a_wrong_clock_loses_nothing(sandbox: Sandbox, session: aiohttp.ClientSession, ahead_s: float) -> None:
    """A relay whose clock is ten minutes off reads everything, and its watermark stays on the server's clock."""
    source = learnosity_source(sandbox, session, clock=WrongClock(sandbox, ahead_s))
    watermark = sandbox.clock.now() - timedelta(seconds=30)
    sandbox.learnosity.put("a")
    found = []
    for _ in range(3):
        sandbox.advance(10)
        rows, watermark = await poll(source, watermark)
        found.append("a" in rows)
        assert watermark <= sandbox.clock.now() - timedelta(seconds=2)
    assert any(found)


async def test_metadata_is_included_when_asked_for(sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
    """Attributes that a session has come with its row; the signature covers the request that asks for them."""
    sandbox.learnosity.put("a", metadata={"course": "\u00fc", "other": 1})
    sandbox.advance(5)
    rows, _ = await poll(learnosity_source(sandbox, session, session_metadata=["course", "gone"]), NOW)
    assert "\u00fc" in json.dumps(rows["a"], ensure_ascii=False)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("consumer_key", "nobody"),
        ("consumer_secret", "wrong"),
        ("domain", "other.example.org"),
    ],
)
async def test_wrong_learnosity_credentials_are_refused(
    sandbox: Sandbox, session: aiohttp.ClientSession, option: str, value: str
) -> None:
    """Each is its own code of the vendor's; all of them mean that the settings need a look."""
    assert await reason_of(learnosity_source(sandbox, session, **{option: value})) == "refused"


async def test_an_unknown_version_is_a_status(sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
    """It answers 404 in plain text, and a version that is gone answers with a code."""
    assert await reason_of(learnosity_source(sandbox, session, version="v2025.1.lts")) == "http_status"
    assert await reason_of(learnosity_source(sandbox, session, version="v2019.1.LTS")) == "upstream_error"


LEARNOSITY_FAULTS = {name: reason for name, reason in LOD_FAULTS.items() if not name.startswith("error_")} | {
    "200_status_false": "upstream_error",
    "301": "http_status",
    "404_text": "http_status",
    "10000": "upstream_error",
    "20004": "upstream_error",
    "41003": "refused",
    "42000": "rate_limited",
    "42001": "upstream_error",
    "vendor_json": "not_json",
}


@pytest.mark.parametrize(("fault", "reason"), LEARNOSITY_FAULTS.items())
async def test_every_learnosity_fault_is_classified_and_survived(
    sandbox: Sandbox, learnosity: LearnositySource, fault: str, reason: str
) -> None:
    """The poll after the fault goes on as if nothing had been."""
    sandbox.learnosity.put("a", updated_at=NOW - timedelta(seconds=30))
    sandbox.learnosity.fault_next(fault)
    assert await reason_of(learnosity) == reason
    rows, _ = await poll(learnosity, NOW)
    assert list(rows) == ["a"]


async def test_too_large_an_answer_is_read_in_smaller_pages(sandbox: Sandbox, learnosity: LearnositySource) -> None:
    """Code 20027 costs requests, not rows."""
    for number in range(60):
        sandbox.learnosity.put(f"s{number}", updated_at=NOW - timedelta(seconds=30))
    sandbox.learnosity.fault_next("20027", times=2)
    rows, _ = await poll(learnosity, NOW)
    assert len(rows) == 60
    assert [request.request["limit"] for request in sandbox.learnosity.requests] == [50, 25, *[12] * 6]


@pytest.mark.parametrize("fault", ["bad_row", "numeric_strings", "unknown_status", "empty"])
async def test_odd_rows_are_delivered_as_they_came(sandbox: Sandbox, learnosity: LearnositySource, fault: str) -> None:
    """Rows are the family's to judge; a poll over them is complete."""
    sandbox.learnosity.put("a", updated_at=NOW - timedelta(seconds=30))
    sandbox.learnosity.fault_next(fault)
    _, watermark = await poll(learnosity, NOW)
    assert watermark == NOW  # already read further than the settled time
