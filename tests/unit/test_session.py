"""Learnosity sessions: the contract's event table, and how a row of `sessions/statuses` is read."""

import itertools
from datetime import datetime
from typing import Any

import pytest

from relay.core.errors import InvalidRecordError
from relay.core.session import SessionFamily
from tests.unit.entities import NOW, SESSIONS, SessionState, session_row, told, types
from tests.unit.oracle import session_types

STATUSES = ("Incomplete", "Completed", "Discarded", "Pending Scoring", "Archived", "completed")
FIRST, SECOND = "2026-11-21T16:30:00Z", "2026-11-21T16:45:00Z"

TABLE: list[tuple[dict[str, Any] | None, dict[str, Any], list[str]]] = [
    (None, {}, ["session.started"]),
    (None, {"status": "Completed", "dt_completed": FIRST}, ["session.completed"]),
    (None, {"status": "Discarded"}, ["session.discarded"]),
    (None, {"status": "Pending Scoring"}, ["session.submitted"]),
    (None, {"status": "Archived"}, ["session.status_changed"]),
    ({}, {"status": "Pending Scoring"}, ["session.submitted"]),
    ({"status": "Pending Scoring"}, {"status": "Completed"}, ["session.completed"]),
    ({}, {"status": "Completed"}, ["session.completed"]),
    ({}, {"status": "Discarded"}, ["session.discarded"]),
    ({"status": "Completed"}, {}, ["session.reopened"]),
    ({"status": "Pending Scoring"}, {}, ["session.reopened"]),
    ({"status": "Discarded"}, {}, ["session.reinstated"]),
    ({"status": "Discarded"}, {"status": "Completed"}, ["session.reinstated"]),
    ({"status": "Discarded"}, {"status": "Pending Scoring"}, ["session.status_changed"]),
    ({"status": "Completed"}, {"status": "Pending Scoring"}, ["session.resubmitted"]),
    (
        {"status": "Completed", "dt_completed": FIRST},
        {"status": "Completed", "dt_completed": SECOND},
        ["session.resubmitted"],
    ),
    ({"status": "Completed"}, {"status": "Completed", "dt_completed": FIRST}, []),
    ({}, {"status": "Archived"}, ["session.status_changed"]),
    ({"status": "Archived"}, {}, ["session.status_changed"]),
    ({}, {"session_duration": 99, "num_attempted": 9, "num_questions": 1, "user_id": "x"}, []),
]


@pytest.mark.parametrize(("old", "new", "expected"), TABLE)
def test_every_line_of_the_event_table(old: dict[str, Any] | None, new: dict[str, Any], expected: list[str]) -> None:
    """Each line of the contract's table gives its type and nothing else."""
    assert types(SESSIONS, None if old is None else session_row(**old), session_row(**new)) == expected


def test_every_pair_of_states_agrees_with_the_contract() -> None:
    """All statuses, known or not, with every dt_completed and progress: as the second reading says."""
    family = SessionFamily(progress=True)
    states = [SessionState(*values) for values in itertools.product(STATUSES, (None, FIRST, SECOND), (None, 1, 2))]
    for old, new in itertools.product((None, *states), states):
        assert types(family, old and old.row(), new.row()) == session_types(old, new, progress=True), (old, new)


def test_progress_precedes_the_status() -> None:
    """Attempts and completion in one diff are two events in the contract's order."""
    new = session_row(status="Completed", num_attempted=9)
    assert types(SessionFamily(progress=True), session_row(), new) == ["session.progressed", "session.completed"]


@pytest.mark.parametrize("other", ["2026-11-21T16:30:00.000Z", "2026-11-21T17:30:00+01:00", "2026-11-21T16:30:00"])
def test_another_spelling_of_the_same_moment_is_no_resubmission(other: str) -> None:
    """dt_completed is compared as a moment, so a new version's format starts no storm."""
    old, new = (session_row(status="Completed", dt_completed=text) for text in (FIRST, other))
    assert types(SESSIONS, old, new) == []
    assert SESSIONS.read(new, NOW).view[1] == FIRST


def test_the_upstreams_own_times() -> None:
    """dt_started dates a start, dt_completed a completion; nothing dates a discarding."""
    assert told(SESSIONS, None, session_row())[0].occurred_at == datetime.fromisoformat("2026-11-21T16:00:00Z")
    done = told(SESSIONS, session_row(), session_row(status="Completed", dt_completed=FIRST))
    assert done[0].occurred_at == datetime.fromisoformat(FIRST)
    gone = told(SESSIONS, session_row(), session_row(status="Discarded", dt_completed=FIRST))
    assert gone[0].occurred_at is None


def test_the_record_is_passed_on_byte_by_byte() -> None:
    """Values keep their spelling: the unit and format of session_duration are the vendor's secret."""
    raw = b'{"session_id":"a","status":"Completed","session_duration":7.0,"user_id":12,"metadata":{"k": 1}}'
    details = SESSIONS.details(SESSIONS.read(raw, NOW))
    assert (details.body, details.private, details.user_id, details.class_id) == (raw, b"", "12", None)


@pytest.mark.parametrize("status", ["", "x" * 101, None, 4, ["Completed"]])
def test_a_status_that_cannot_be_one_keeps_the_row_out(status: object) -> None:
    """A status is a short text."""
    with pytest.raises(InvalidRecordError):
        SESSIONS.read(session_row(status=status), NOW)


def test_open_means_neither_completed_nor_discarded() -> None:
    """A session waits for its scores with its life still going on; an unknown status may lead anywhere."""
    still = {name for name in STATUSES if SESSIONS.is_open(SESSIONS.read(session_row(status=name), NOW).view)}
    assert still == {"Incomplete", "Pending Scoring", "Archived", "completed"}
