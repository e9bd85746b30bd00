"""The lively population: a pure function of seed and time, in which every kind of change can be watched."""

import ipaddress
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import aiohttp
import msgspec
import pytest

from relay.core.lab import LabFamily
from relay.core.model import Family, View
from relay.core.session import SessionFamily
from relay.sandbox import LOD_API_KEY, Sandbox
from relay.sandbox.learnosity_rows import render as render_session
from relay.sandbox.lod_rows import render as render_lab
from relay.sandbox.lod_rows import run_time_s
from relay.sandbox.population import labs_at, outage_at, sessions_at
from relay.sandbox.scripts import LAB_SCRIPTS, SESSION_SCRIPTS, Script

SEED = 7
STARTS = [datetime(2026, 11, 21, 17, 0, tzinfo=UTC) + timedelta(seconds=s) for s in (0, 37.4, 91.7, 150.2)]
LAB_EVENTS = {
    "lab.started",
    "lab.engaged",
    "lab.submitted",
    "lab.grading_started",
    "lab.completed",
    "lab.ended_incomplete",
    "lab.no_show",
    "lab.cancelled",
    "lab.failed.storage_provisioning",
    "lab.failed.creation",
    "lab.failed.resume",
    "lab.failed.save",
    "lab.reopened",
    "lab.scored",
    "lab.rescored",
    "lab.score_cleared",
    "lab.outcome_changed",
    "lab.reassigned",
    "lab.status_changed",
    "lab.progressed",
}
SESSION_EVENTS = {
    "session.started",
    "session.submitted",
    "session.completed",
    "session.discarded",
    "session.reopened",
    "session.reinstated",
    "session.resubmitted",
    "session.status_changed",
    "session.progressed",
}


def lab_rows(now: datetime) -> list[dict[str, Any]]:
    """What a poll of LOD sees; nothing while it is down."""
    if outage_at(now):
        return []
    labs = labs_at(SEED, now).items()
    return [render_lab(lab_id, lab, run_time_s(lab, int(now.timestamp()))) for lab_id, lab in labs]


def session_rows(now: datetime) -> list[dict[str, Any]]:
    """What a poll of Learnosity sees."""
    return [render_session(session, ()) for session in sessions_at(SEED, now).values()]


def events(family: Family, polls: Iterator[tuple[datetime, list[dict[str, Any]]]]) -> Iterator[tuple[datetime, str]]:
    """The event types that a relay would mint, after a silent baseline on the first poll."""
    known: dict[str, View] = {}
    baseline = True
    for now, rows in polls:
        for row in rows:
            record = family.read(msgspec.json.encode(row), now)
            old = known.get(record.entity_id)
            known[record.entity_id] = record.view
            steps = family.first_steps(record.view) if old is None else family.steps(old, record.view)
            if not baseline and old != record.view:
                yield from ((now, step.event_type) for step in steps)
        baseline = baseline and not rows


def polled(rows: Any, start: datetime, seconds: float) -> Iterator[tuple[datetime, list[dict[str, Any]]]]:
    """A poll every two seconds."""
    for n in range(int(seconds / 2) + 1):
        now = start + timedelta(seconds=2 * n)
        yield now, rows(now)


@pytest.mark.parametrize("start", STARTS)
def test_every_kind_of_lab_event_is_seen_within_two_minutes(start: datetime) -> None:
    """Whenever one starts to look, and in spite of the outage, every `lab.*` type of the contract occurs."""
    seen = {event_type for _, event_type in events(LabFamily(progress=True), polled(lab_rows, start, 110))}
    assert seen == LAB_EVENTS


@pytest.mark.parametrize("start", STARTS)
def test_every_kind_of_session_event_is_seen_within_a_minute(start: datetime) -> None:
    """Whenever one starts to look, every `session.*` type of the contract occurs."""
    seen = {event_type for _, event_type in events(SessionFamily(progress=True), polled(session_rows, start, 60))}
    assert seen == SESSION_EVENTS


@pytest.mark.parametrize("start", STARTS[:2])
def test_the_first_events_come_at_once(start: datetime) -> None:
    """Four seconds of polling show events of both families."""
    assert len(list(events(LabFamily(), polled(lab_rows, start, 4)))) >= 1
    assert len(list(events(SessionFamily(), polled(session_rows, start, 4)))) >= 1


def test_no_poll_of_two_seconds_misses_a_step() -> None:
    """Steps of a script are at least four seconds apart, begin at once, and end within a minute."""
    scripts: tuple[Script, ...] = (*LAB_SCRIPTS, *SESSION_SCRIPTS)
    for script in scripts:
        offsets = [offset_s for offset_s, _ in script]
        assert offsets[0] == 0
        assert offsets[-1] <= 60
        assert all(later - earlier >= 4 for earlier, later in pairwise(offsets))


def test_the_population_is_a_pure_function_of_seed_and_time() -> None:
    """The same moment shows the same world whatever was asked before; another seed shows another."""
    start = STARTS[0]
    later = start + timedelta(seconds=500)
    before = (labs_at(SEED, start), sessions_at(SEED, start))
    labs_at(SEED, later)
    assert (labs_at(SEED, start), sessions_at(SEED, start)) == before
    assert labs_at(SEED + 1, start).keys().isdisjoint(before[0])
    assert sessions_at(SEED + 1, start).keys().isdisjoint(before[1])


def test_only_a_quarter_of_an_hour_exists() -> None:
    """The population stays at about 300 of each family, and nobody older than 15 minutes is in it."""
    now = STARTS[1]
    labs, sessions = labs_at(SEED, now), sessions_at(SEED, now)
    assert (len(labs), len(sessions)) == (300, 300)
    later = now + timedelta(seconds=900)
    assert labs.keys().isdisjoint(labs_at(SEED, later))
    assert sessions.keys().isdisjoint(sessions_at(SEED, later))


def test_the_marks_of_a_lab_never_fall() -> None:
    """Last activity and running time only grow, through ends, failures and reopenings."""
    marks: dict[int, tuple[int, int]] = {}
    for _, rows in polled(lab_rows, STARTS[0], 120):
        for row in rows:
            new = (row["LastActivity"] or 0, row["TotalRunTimeSeconds"])
            old = marks.setdefault(row["LabInstanceId"], new)
            assert new >= old
            assert new[1] >= old[1]
            marks[row["LabInstanceId"]] = new


def test_learners_are_invented() -> None:
    """User ids are numbered learners, and addresses lie in the ranges reserved for documentation."""
    documentation = [ipaddress.ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32")]
    rows = lab_rows(STARTS[0])
    addresses = {row["IpAddress"] for row in rows}
    assert None in addresses
    assert len(addresses) == 4
    for address in addresses - {None}:
        assert any(ipaddress.ip_address(address) in net for net in documentation)
    users = {row["user_id"] for row in session_rows(STARTS[0])} | {row["UserId"] for row in rows} - {None}
    assert all(user.startswith("learner-") for user in users)


def test_lod_is_down_for_twelve_seconds_in_ninety() -> None:
    """In any minute and a half there are twelve seconds of outage, in one piece."""
    down = [outage_at(STARTS[2] + timedelta(seconds=s)) is not None for s in range(90)]
    assert sum(down) == 12
    assert sum(a != b for a, b in zip(down, [*down[1:], down[0]], strict=True)) == 2


class Offset:
    """A clock that stands at a given time."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        """Always the same moment."""
        return self._at

    def monotonic(self) -> float:
        """Always the same reading."""
        return 0.0


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client."""
    async with aiohttp.ClientSession() as client:
        yield client


async def look(session: aiohttp.ClientSession, sandbox: Sandbox) -> tuple[int, dict[int, Any]]:
    """One poll of LOD: status, and rows by id."""
    url = sandbox.lod_url + "/LatestResults/?minutes=16"
    async with session.get(url, headers={"api_key": LOD_API_KEY}) as response:
        if response.status != 200:
            return response.status, {}
        return 200, {row["LabInstanceId"]: row for row in json.loads(await response.read())["Results"]}


async def test_two_sandboxes_show_the_same_world(session: aiohttp.ClientSession) -> None:
    """A sandbox that started earlier and one that is restarted later answer alike at the same moment."""
    earlier = await Sandbox.start(clock=Offset(STARTS[0]), lively=True)
    await look(session, earlier)
    earlier.advance(60)
    later = await Sandbox.start(clock=Offset(STARTS[0] + timedelta(seconds=60)), lively=True)
    try:
        assert await look(session, earlier) == await look(session, later)
        assert len((await look(session, later))[1]) == 300
    finally:
        await earlier.stop()
        await later.stop()


async def test_the_outage_is_seen_over_http_only_when_lively(session: aiohttp.ClientSession) -> None:
    """During the outage a lively LOD answers 503; a still one does not, and has nobody in it."""
    at = next(moment for s in range(180) if outage_at(moment := STARTS[0] + timedelta(seconds=s)))
    lively = await Sandbox.start(clock=Offset(at), lively=True)
    still = await Sandbox.start(clock=Offset(at))
    try:
        assert await look(session, lively) == (503, {})
        assert await look(session, still) == (200, {})
        lively.advance(12)
        assert (await look(session, lively))[0] == 200
    finally:
        await lively.stop()
        await still.stop()


async def test_what_lives_by_itself_can_be_changed_and_removed() -> None:
    """A put goes on from the scripted state and stays; a removed one does not come back."""
    sandbox = await Sandbox.start(clock=Offset(STARTS[0]), lively=True)
    lod, learnosity = sandbox.lod, sandbox.learnosity
    lab_id, lab = next(iter(labs_at(SEED, STARTS[0]).items()))
    session_id = next(iter(sessions_at(SEED, STARTS[0])))
    lod.put(lab_id, TaskCompletePercent=99)
    learnosity.put(session_id, num_attempted=77)
    sandbox.advance(3000)
    assert lod.answer("GET", "/lod/api/v3/result", {"labInstanceId": str(lab_id)}, LOD_API_KEY).status == 200
    kept = json.loads(lod.answer("GET", "/lod/api/v3/result", {"labInstanceId": str(lab_id)}, LOD_API_KEY).body)
    assert (kept["TaskCompletePercent"], kept["UserId"]) == (99, lab.fields["UserId"])
    lod.remove(lab_id)
    gone = json.loads(lod.answer("GET", "/lod/api/v3/result", {"labInstanceId": str(lab_id)}, LOD_API_KEY).body)
    assert gone["Status"] == 0
    await sandbox.stop()


def test_a_poll_of_the_population_takes_milliseconds() -> None:
    """Listing all labs again costs little, because most have not moved; the bound is generous for a busy machine."""
    now = STARTS[0]
    labs_at(SEED, now)
    durations = []
    for n in range(5):
        begun = time.perf_counter()
        labs_at(SEED, now + timedelta(seconds=n))
        durations.append(time.perf_counter() - begun)
    assert min(durations) < 0.02
