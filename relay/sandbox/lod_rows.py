"""Lab instances as LOD holds them: the fields of a LabResult, how a change lands, which rows a window selects.

Field names and order follow the vendor's LatestResults page. `LastActivity` and `TotalRunTimeSeconds` are derived
unless they are given, and never fall while a lab goes on: a client may take a fall for an older row.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from relay.sandbox.answers import SandboxInputError

NOT_STARTED = 2
WEEK_S = 7 * 86_400

Selection = Literal["start_or_end_in_window", "any_state_change"]
"""What "recently changed state" means. The vendor says both; the first is the pessimistic reading."""


class LabFields(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, kw_only=True):
    """What may be set on a lab instance; the names on the wire are the vendor's."""

    lab_profile_id: int | UnsetType = UNSET
    start: int | UnsetType = UNSET
    end: int | UnsetType | None = UNSET
    last_activity: int | UnsetType | None = UNSET
    user_id: str | UnsetType | None = UNSET
    class_id: str | UnsetType | None = UNSET
    completion_status: int | UnsetType = UNSET
    total_run_time_seconds: int | UnsetType = UNSET
    task_complete_percent: int | UnsetType = UNSET
    is_exam: bool | UnsetType = UNSET
    exam_passed: bool | UnsetType | None = UNSET
    exam_score: int | float | UnsetType | None = UNSET
    exam_max_possible_score: int | UnsetType | None = UNSET
    exam_passing_score: int | UnsetType | None = UNSET
    ip_address: str | UnsetType | None = UNSET
    country: str | UnsetType | None = UNSET
    region: str | UnsetType | None = UNSET
    city: str | UnsetType | None = UNSET
    latitude: int | float | UnsetType | None = UNSET
    longitude: int | float | UnsetType | None = UNSET
    lab_host_id: int | UnsetType | None = UNSET
    datacenter_id: int | UnsetType | None = UNSET
    delivery_region_id: int | UnsetType | None = UNSET


DEFAULTS: Mapping[str, Any] = {
    "LabProfileId": 5522,
    "Start": None,
    "End": None,
    "LastActivity": None,
    "UserId": None,
    "ClassId": None,
    "CompletionStatus": NOT_STARTED,
    "TotalRunTimeSeconds": None,  # None: derived, see `render`
    "TaskCompletePercent": 0,
    "IsExam": False,
    "ExamPassed": None,
    "ExamScore": None,
    "ExamMaxPossibleScore": None,
    "ExamPassingScore": None,
    "IpAddress": None,
    "Country": None,
    "Region": None,
    "City": None,
    "Latitude": None,
    "Longitude": None,
    "LabHostId": 49,
    "DatacenterId": 3,
    "DeliveryRegionId": 2,
}
"""A row before anything is known of it, in the vendor's order."""

UNDOCUMENTED = {"InstancePoolName": "standard"}
"""A field that the vendor never documented: "new API objects will be added", so one is always there."""


class Lab(NamedTuple):
    """One lab instance; `fields` is replaced, never changed in place."""

    fields: Mapping[str, Any]
    changed_at_s: float


def epoch_s(moment: datetime) -> int:
    """Unix seconds, rounded to the nearest as LOD does: they may lie half a second ahead."""
    return int(moment.timestamp() + 0.5)


def read_fields(fields: Mapping[str, Any], now_s: int) -> dict[str, Any]:
    """Check what somebody sets; the text `now` stands for the present in a time."""
    times = ("Start", "End", "LastActivity")
    given = {name: now_s if name in times and value == "now" else value for name, value in fields.items()}
    try:
        checked = msgspec.convert(given, LabFields)
    except msgspec.ValidationError as error:
        raise SandboxInputError(f"not a lab instance: {error}") from None
    read: dict[str, Any] = msgspec.to_builtins(checked)
    return read


def create(changes: Mapping[str, Any], at_s: float) -> Lab:
    """Begin a lab; without `Start` it starts now, or when it ended if that was earlier."""
    start = min(int(at_s + 0.5), changes.get("End") or int(at_s + 0.5))
    return change(Lab({**DEFAULTS, "Start": start}, at_s), changes, at_s)


def change(lab: Lab, changes: Mapping[str, Any], at_s: float) -> Lab:
    """Let `changes` happen at `at_s`: a learner's activity shows unless the lab is over or nobody came."""
    old, new = lab.fields, {**lab.fields, **changes}
    was_or_is_open = old["End"] is None or new["End"] is None
    if "LastActivity" not in changes and new["CompletionStatus"] != NOT_STARTED and was_or_is_open:
        latest = int(at_s + 0.5) if new["End"] is None else new["End"]
        new["LastActivity"] = max(old["LastActivity"] or 0, latest)
    return Lab(new, at_s)


def run_time_s(lab: Lab, now_s: int) -> int:
    """Seconds for which the lab has run, whether or not somebody was there."""
    fields = lab.fields
    until: int = now_s if fields["End"] is None else fields["End"]
    return max(0, until - int(fields["Start"]))


def render(lab_id: int, lab: Lab, total_s: int) -> dict[str, Any]:
    """Write a LabResult with a running total of `total_s` unless one was set."""
    row = {"LabInstanceId": lab_id, **lab.fields, **UNDOCUMENTED}
    if row["TotalRunTimeSeconds"] is None:
        row["TotalRunTimeSeconds"] = total_s
    return row


def is_selected(lab: Lab, selection: Selection, first_s: float, last_s: float) -> bool:
    """Whether a window from `first_s` to `last_s` (both inclusive) holds the lab."""
    if selection == "any_state_change":
        return first_s <= lab.changed_at_s <= last_s
    start, end = lab.fields["Start"], lab.fields["End"]
    return first_s <= start <= last_s or (end is not None and first_s <= end <= last_s)
