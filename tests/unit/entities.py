"""Rows, states and a model of the store for the tests of the pure core."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from relay.core.diff import Transition, transitions
from relay.core.lab import LabFamily
from relay.core.model import Change, Event, Family, Observation, Snapshot
from relay.core.session import SessionFamily

NOW = datetime(2026, 11, 21, 17, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())

LAB: dict[str, Any] = {
    "LabInstanceId": 349744,
    "LabProfileId": 5522,
    "Start": NOW_S - 3600,
    "End": None,
    "LastActivity": NOW_S - 60,
    "UserId": "555",
    "ClassId": None,
    "CompletionStatus": 3,
    "TotalRunTimeSeconds": 2548,
    "TaskCompletePercent": 33,
    "IsExam": True,
    "ExamPassed": None,
    "ExamScore": None,
    "IpAddress": None,
    "Country": None,
    "LabHostId": 49,
}
SESSION: dict[str, Any] = {
    "session_id": "0a643076",
    "user_id": "d7dd0d99",
    "activity_id": "demo",
    "num_attempted": 3,
    "session_duration": 7,
    "status": "Incomplete",
    "dt_started": "2026-11-21T16:00:00Z",
    "dt_completed": None,
}

LABS = LabFamily()
SESSIONS = SessionFamily()


def lab_row(**changes: Any) -> bytes:
    """One row of LatestResults."""
    return json.dumps({**LAB, **changes}).encode()


def session_row(**changes: Any) -> bytes:
    """One row of `sessions/statuses`."""
    return json.dumps({**SESSION, **changes}).encode()


def seen(after_s: float = 0, *, source: str = "lod", backfill: bool = False) -> Observation:
    """An observation some seconds after `NOW`."""
    return Observation(source, NOW + timedelta(seconds=after_s), backfill)


def told(family: Family, old: bytes | None, new: bytes) -> tuple[Transition, ...]:
    """What the change from one row to another comes to."""
    known = None
    if old is not None:
        before = family.read(old, NOW)
        known = Snapshot(7, NOW_S, before.marks, before.view)
    record = family.read(new, NOW)
    return transitions(family, known, record, family.details(record))


def types(family: Family, old: bytes | None, new: bytes) -> list[str]:
    """Only the types of it."""
    return [one.event_type for one in told(family, old, new)]


def data(event: Event) -> dict[str, Any]:
    """The payload's `data`."""
    content: dict[str, Any] = json.loads(event.payload)["data"]
    return content


class LabState(NamedTuple):
    """A lab instance as the upstream knows it."""

    status: int
    end: int | None = None
    user: str | None = "555"
    class_id: str | None = None
    score: float | None = None
    passed: bool | None = None
    percent: int | None = None

    def row(self, **changes: Any) -> bytes:
        """Its row."""
        return lab_row(
            CompletionStatus=self.status,
            End=self.end,
            UserId=self.user,
            ClassId=self.class_id,
            ExamScore=self.score,
            ExamPassed=self.passed,
            TaskCompletePercent=self.percent,
            **changes,
        )


class SessionState(NamedTuple):
    """A session as the upstream knows it."""

    status: str
    completed: str | None = None
    attempted: int | None = None

    def row(self, **changes: Any) -> bytes:
        """Its row."""
        return session_row(status=self.status, dt_completed=self.completed, num_attempted=self.attempted, **changes)


class ModelStore:
    """Snapshots and log as the mint script keeps them: compare-and-set, both or neither."""

    def __init__(self) -> None:
        self.snapshots: dict[str, bytes] = {}
        self.log: list[Event] = []

    def mint(self, changes: Iterable[Change]) -> tuple[int, int, int]:
        """How many changes were applied, found done, or in conflict."""
        counts = [0, 0, 0]
        for change in changes:
            current = self.snapshots.get(change.entity_id, b"")
            if current == change.expected:
                if change.new:
                    self.snapshots[change.entity_id] = change.new
                else:
                    self.snapshots.pop(change.entity_id, None)
                self.log.extend(change.events)
                counts[0] += 1
            else:
                counts[1 if current == change.new else 2] += 1
        return counts[0], counts[1], counts[2]
