"""Sessions as Learnosity holds them: the fields of a `sessions/statuses` row, and how a change lands.

Field names and order follow the vendor's page. A row carries no updated time and no score.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from relay.sandbox.answers import SandboxInputError
from relay.sandbox.learnosity_query import EPOCH, Session


class SessionFields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What may be set on a session; any status is accepted, as the vendor may invent one."""

    user_id: str | UnsetType = UNSET
    activity_id: str | UnsetType = UNSET
    num_attempted: int | UnsetType = UNSET
    num_questions: int | UnsetType = UNSET
    session_duration: int | UnsetType | None = UNSET
    status: str | UnsetType = UNSET
    dt_started: str | UnsetType = UNSET
    dt_completed: str | UnsetType | None = UNSET
    activity_template_id: str | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


DEFAULTS: Mapping[str, Any] = {
    "user_id": "learner-1",
    "activity_id": "demo_assessment",
    "num_attempted": 0,
    "num_questions": 10,
    "session_duration": 0,
    "status": "Incomplete",
    "dt_started": None,
    "dt_completed": None,
}


def iso(moment: datetime) -> str:
    """Write a time as the vendor does: whole seconds, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_fields(fields: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Check what somebody sets; the text `now` stands for the present in a time."""
    times = ("dt_started", "dt_completed")
    given = {name: iso(now) if name in times and value == "now" else value for name, value in fields.items()}
    try:
        read: dict[str, Any] = msgspec.to_builtins(msgspec.convert(given, SessionFields))
    except msgspec.ValidationError as error:
        raise SandboxInputError(f"not a session: {error}") from None
    for name in times:
        if read.get(name) is not None:
            read_time(read[name], name)
    return read


def read_time(value: object, name: str) -> datetime:
    """Read a datetime, Unix seconds or ISO 8601 as an aware datetime."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        elif isinstance(value, int | float):
            value = EPOCH + timedelta(seconds=value)
    except (ValueError, OverflowError):
        value = None
    if not isinstance(value, datetime):
        raise SandboxInputError(f"{name} must be ISO 8601 or Unix seconds")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def change(known: Mapping[str, Any] | None, changes: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Let `changes` happen: submitting sets `dt_completed`, going on clears it, unless it is given."""
    fields = {**(known or {**DEFAULTS, "dt_started": iso(now)}), **changes}
    if "status" in changes and "dt_completed" not in changes:
        if changes["status"] == "Incomplete":
            fields["dt_completed"] = None
        elif changes["status"] in ("Completed", "Pending Scoring"):
            fields["dt_completed"] = fields["dt_completed"] or iso(now)
    if "session_duration" not in changes:
        until = fields["dt_completed"] or iso(now)
        minutes = (read_time(until, "") - read_time(fields["dt_started"], "")) // timedelta(minutes=1)
        fields["session_duration"] = max(0, minutes)
    return fields


def render(session: Session, metadata: tuple[str, ...]) -> dict[str, Any]:
    """Write a row, with the wanted metadata that exists."""
    row: dict[str, Any] = {}
    for name, value in session.fields.items():
        if name == "session_duration":
            row["session_id"] = session.session_id
        if name != "metadata":
            row[name] = value
    if metadata:
        stored = session.fields.get("metadata", {})
        row["metadata"] = {name: stored[name] for name in metadata if name in stored}
    return row
