"""Learnosity sessions: what a `sessions/statuses` row says, and which events a change of it means."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from relay.core.diff import fitted
from relay.core.errors import InvalidRecordError
from relay.core.model import Details, Record, Step, View
from relay.core.rows import count, entity_id, parse_time, reader, split, text_or_none

INCOMPLETE, COMPLETED, DISCARDED, PENDING = "Incomplete", "Completed", "Discarded", "Pending Scoring"
MAX_STATUS_LENGTH = 100


class SessionView(NamedTuple):
    """The tracked fields of a session."""

    status: str
    completed_at: str | None
    attempted: int | None


_KINDS = ((str,), (str,), (int, float))
_UNKNOWN = "Unknown"
"""The status of a session whose snapshot is not one of a session."""


class _Row(msgspec.Struct):
    session_id: str | int
    status: str
    dt_started: str | None = None
    dt_completed: str | None = None
    num_attempted: float | None = None
    user_id: str | int | None = None


_read_row = reader(_Row)


class SessionFamily:
    """The rules for sessions. `progress` turns `session.progressed` on."""

    entity_kind = "session"
    id_field = "session_id"
    fields = ("status", "dt_completed", "num_attempted")
    learner_at = None

    def __init__(self, *, progress: bool = False) -> None:
        self._progress = progress

    def read(self, raw: bytes, now: datetime) -> Record:
        """Read one row of `sessions/statuses`. Its rows have nothing that only grows: no marks."""
        row = _read_row(raw)
        if not row.status or len(row.status) > MAX_STATUS_LENGTH:
            raise InvalidRecordError("status is empty or too long", "status")
        parse_time(row.dt_started, "dt_started", now)
        completed = parse_time(row.dt_completed, "dt_completed", now)
        attempted = row.num_attempted if self._progress else None
        view = SessionView(
            row.status,
            None if completed is None else _spelled(completed),
            None if attempted is None else count(attempted, "num_attempted"),
        )
        return Record(entity_id(row.session_id, "session_id"), view, (), raw)

    def details(self, record: Record) -> Details:
        """Read the rest of a row."""
        row = _read_row(record.raw)
        body, private = split(record.raw, ())
        started, ended = (
            parse_time(row.dt_started, "dt_started"),
            parse_time(row.dt_completed, "dt_completed"),
        )
        return Details(started, ended, text_or_none(row.user_id), None, body, private)

    def status(self, view: View) -> str:
        """The vendor's own words."""
        return str(view[0])

    def is_open(self, view: View) -> bool:
        """Neither finished nor discarded."""
        return view[0] not in (COMPLETED, DISCARDED)

    def view(self, values: Sequence[Any]) -> View:
        """Restore a stored view."""
        status, *rest = fitted(values, _KINDS)
        return SessionView(_UNKNOWN if status is None else status, *rest)

    def first_steps(self, view: View) -> Sequence[Step]:
        """First sight: started if it is open, else only what it has come to."""
        return (_FIRST.get(view[0], _OTHER),)

    def steps(self, old: View, new: View) -> Sequence[Step]:
        """The events of one change: progress, then status."""
        before, after = SessionView(*old), SessionView(*new)
        steps = [_status_step(before, after)]
        if before.attempted is not None and after.attempted is not None and after.attempted > before.attempted:
            steps.insert(0, Step("session.progressed"))
        return [step for step in steps if step is not None]


def _spelled(moment: datetime) -> str:
    """One spelling per moment, the vendor's own: `.000` or `+00:00` instead of `Z` is no resubmission."""
    return moment.isoformat().replace("+00:00", "Z")


_OTHER = Step("session.status_changed", True)
_STARTED = Step("session.started", True, "started")
_SUBMITTED = Step("session.submitted", True, "ended")
_COMPLETED = Step("session.completed", True, "ended")
_DISCARDED = Step("session.discarded", True)
_REOPENED = Step("session.reopened", True)
_REINSTATED = Step("session.reinstated", True)
_RESUBMITTED = Step("session.resubmitted", True, "ended")

_FIRST = {INCOMPLETE: _STARTED, PENDING: _SUBMITTED, COMPLETED: _COMPLETED, DISCARDED: _DISCARDED}
_MOVES = {
    (INCOMPLETE, PENDING): _SUBMITTED,
    (COMPLETED, INCOMPLETE): _REOPENED,
    (PENDING, INCOMPLETE): _REOPENED,
    (DISCARDED, INCOMPLETE): _REINSTATED,
    (DISCARDED, COMPLETED): _REINSTATED,
    (COMPLETED, PENDING): _RESUBMITTED,
}
_ARRIVALS = {COMPLETED: _COMPLETED, DISCARDED: _DISCARDED}


def _status_step(before: SessionView, after: SessionView) -> Step | None:
    if before.status != after.status:
        return _MOVES.get((before.status, after.status)) or _ARRIVALS.get(after.status, _OTHER)
    completed_again = (
        after.status == COMPLETED
        and before.completed_at is not None
        and after.completed_at is not None
        and before.completed_at != after.completed_at
    )
    return _RESUBMITTED if completed_again else None
