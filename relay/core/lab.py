"""Lab on Demand lab instances: what a row says, and which events a change of it means.

Status codes and the meaning of `End` follow the vendor's LatestResults page. A running lab is "No Show" (2: nobody
has come yet) or "Incomplete" (3) without `End`; the same codes with `End` are how a lab ends.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from relay.core.diff import fitted
from relay.core.model import Details, Record, Step, View
from relay.core.rows import count, entity_id, number, parse_time, reader, split, text_or_none

NO_SHOW, INCOMPLETE, COMPLETE, CANCELLED, SUBMITTED, GRADING = 2, 3, 4, 1, 50, 60
FAILURES = {10: "storage_provisioning", 20: "creation", 30: "resume", 40: "save"}
STATUS_NAMES = {
    CANCELLED: "Cancelled",
    NO_SHOW: "No Show",
    INCOMPLETE: "Incomplete",
    COMPLETE: "Complete",
    10: "Storage Provisioning Failed",
    20: "Lab Creation Failed",
    30: "Resume Failed",
    40: "Save Failed",
    SUBMITTED: "Submitted For Grading",
    GRADING: "Grading In Progress",
}
PRIVATE_FIELDS = frozenset({"IpAddress", "Country", "Region", "City", "Latitude", "Longitude"})


class LabView(NamedTuple):
    """The tracked fields of a lab instance."""

    status: int
    end_s: int | None
    user_id: str | None
    class_id: str | None
    score: float | None
    passed: bool | None
    percent: int | None

    @property
    def is_open(self) -> bool:
        """Not started or in progress; 2 and 3 say so only while there is no `End`."""
        return self.status in (NO_SHOW, INCOMPLETE) and self.end_s is None

    @property
    def is_over(self) -> bool:
        """Ended or failed: going on from here is a reopening."""
        return self.status in (CANCELLED, COMPLETE) or self.status in FAILURES or self.end_s is not None


_KINDS = ((int,), (int,), (str,), (str,), (int, float), (bool,), (int,))
_UNKNOWN = -1
"""The status of a lab whose snapshot is not one of a lab."""


class _Row(msgspec.Struct, rename="pascal"):
    lab_instance_id: int
    completion_status: int
    start: float | None = None
    end: float | None = None
    last_activity: float | None = None
    total_run_time_seconds: float | None = None
    user_id: str | int | None = None
    class_id: str | int | None = None
    exam_score: float | None = None
    exam_passed: bool | None = None
    task_complete_percent: float | None = None


_read_row = reader(_Row)


class LabFamily:
    """The rules for lab instances. `progress` turns `lab.progressed` on."""

    entity_kind = "lab_instance"
    id_field = "LabInstanceId"
    fields = (
        "CompletionStatus",
        "End",
        "UserId",
        "ClassId",
        "ExamScore",
        "ExamPassed",
        "TaskCompletePercent",
    )
    learner_at = 2

    def __init__(self, *, progress: bool = False) -> None:
        self._progress = progress

    def read(self, raw: bytes, now: datetime) -> Record:
        """Read one LabResult."""
        row = _read_row(raw)
        end = parse_time(row.end, "End", now)
        parse_time(row.start, "Start", now)
        # Marks from the future would make every later row look older.
        parse_time(row.last_activity, "LastActivity", now)
        percent = row.task_complete_percent if self._progress else None
        view = LabView(
            int(number(row.completion_status, "CompletionStatus")),
            None if end is None else int(end.timestamp()),
            text_or_none(row.user_id),
            text_or_none(row.class_id),
            None if row.exam_score is None else number(row.exam_score, "ExamScore"),
            row.exam_passed,
            None if percent is None else count(percent, "TaskCompletePercent"),
        )
        marks = (count(row.last_activity, "LastActivity"), count(row.total_run_time_seconds, "TotalRunTimeSeconds"))
        return Record(entity_id(row.lab_instance_id, "LabInstanceId"), view, marks, raw)

    def details(self, record: Record) -> Details:
        """Read the rest of a LabResult."""
        row = _read_row(record.raw)
        view = LabView(*record.view)
        body, private = split(record.raw, PRIVATE_FIELDS)
        return Details(
            parse_time(row.start, "Start"),
            parse_time(row.end, "End"),
            view.user_id,
            view.class_id,
            body,
            private,
        )

    def status(self, view: View) -> str:
        """Name the status as the vendor does; one that it has not named keeps its number."""
        return STATUS_NAMES.get(view[0], f"Status {view[0]}")

    def is_open(self, view: View) -> bool:
        """Not over yet: also while it waits to be graded."""
        lab = LabView(*view)
        return lab.is_open or lab.status in (SUBMITTED, GRADING)

    def view(self, values: Sequence[Any]) -> View:
        """Restore a stored view."""
        status, *rest = fitted(values, _KINDS)
        return LabView(_UNKNOWN if status is None else status, *rest)

    def first_steps(self, view: View) -> Sequence[Step]:
        """First sight: started if it is open, else only what it has come to."""
        lab = LabView(*view)
        return (Step("lab.started", True, "started") if lab.is_open else _arrival(lab),)

    def steps(self, old: View, new: View) -> Sequence[Step]:
        """The events of one change: who, then how far, then the score, then the end."""
        before, after = LabView(*old), LabView(*new)
        candidates = (
            Step("lab.reassigned") if before[2:4] != after[2:4] else None,
            _progress_step(before.percent, after.percent),
            _score_step(before.score, after.score),
            Step("lab.outcome_changed") if {before.passed, after.passed} == {True, False} else None,
            _status_step(before, after),
        )
        return sorted((step for step in candidates if step), key=_place)


_ARRIVALS = {
    CANCELLED: "lab.cancelled",
    NO_SHOW: "lab.no_show",
    INCOMPLETE: "lab.ended_incomplete",
    COMPLETE: "lab.completed",
    SUBMITTED: "lab.submitted",
    GRADING: "lab.grading_started",
} | {code: f"lab.failed.{name}" for code, name in FAILURES.items()}

_AT_END = frozenset(_ARRIVALS.values()) - {"lab.grading_started"}
"""What `End` dates: the grading of a lab, or a status nobody knows, comes at a time of its own."""

_ORDER = (
    "lab.reassigned",
    "lab.engaged",
    "lab.progressed",
    "lab.submitted",
    "lab.grading_started",
    "lab.scored",
    "lab.rescored",
    "lab.score_cleared",
    "lab.outcome_changed",
)


def _place(step: Step) -> int:
    return _ORDER.index(step.event_type) if step.event_type in _ORDER else len(_ORDER)


def _progress_step(before: int | None, after: int | None) -> Step | None:
    rises = before is not None and after is not None and after > before
    return Step("lab.progressed") if rises else None


def _score_step(before: float | None, after: float | None) -> Step | None:
    if before == after:
        return None
    if before is None:
        return Step("lab.scored")
    return Step("lab.score_cleared" if after is None else "lab.rescored")


def _status_step(before: LabView, after: LabView) -> Step | None:
    """The event of a change of status or of `End`, if it means one."""
    if after.is_open and before.is_over:
        return Step("lab.reopened", True)
    if after.status == before.status:
        ended = after.status in (NO_SHOW, INCOMPLETE) and before.end_s is None and after.end_s is not None
        return _arrival(after) if ended else None
    if after.is_open:
        engaged = (before.status, after.status) == (NO_SHOW, INCOMPLETE)
        return Step("lab.engaged" if engaged else "lab.status_changed", True)
    return _arrival(after)


def _arrival(lab: LabView) -> Step:
    """What reaching this state means, wherever the lab came from."""
    event_type = _ARRIVALS.get(lab.status, "lab.status_changed")
    return Step(event_type, True, "ended" if event_type in _AT_END else None)
