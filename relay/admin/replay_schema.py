"""Replays as they are asked for and shown."""

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from relay.admin.attempt_schema import moment
from relay.admin.examples import REPLAY
from relay.admin.fields import Described, Instant, Moment, example
from relay.admin.subscriber_schema import Pattern
from relay.core.replay import Only, Replay, Status
from relay.core.subscriber import Subscriber

_WAITS: Final = "its subscriber is disabled: it goes on once that is enabled"
_TRIMMED: Final = "it begins with the oldest event that is kept: what was older has outlived its retention"


class ReplayIn(Described):
    """Which events are to be sent again."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra=example({"since": "2026-11-20T00:00:00Z", "event_types": ["lab.*"], "only": "undelivered"}),
    )

    since: Instant
    """When an event entered the log: from here on, …"""
    until: Instant | None = None
    """… and before this; without it, up to now. What comes later is sent as ever."""
    event_types: Annotated[list[Pattern], Field(min_length=1, max_length=50)] | None = None
    """Only these of the types that the subscriber has asked for."""
    only: Only = "undelivered"
    """`undelivered`: what it has not acknowledged; `all`: what it has acknowledged too, with the same ids."""

    @field_validator("until")
    @classmethod
    def _ends_later(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        since = info.data.get("since")
        if value is not None and since is not None and value <= since:
            raise ValueError("must be later than since")
        return value


class ReplayOut(Described):
    """A replay and how far it has come."""

    model_config = ConfigDict(json_schema_extra=example(REPLAY))

    id: str
    subscriber_id: str
    status: Status
    reason: str | None
    """Why it failed."""
    only: Only
    event_types: list[str]
    """Empty: all that the subscriber asks for."""
    since: Moment
    begins_at: Moment | None
    """When the first event of the range entered the log; null: there is none."""
    until: Moment
    """When the last event that can be part of it entered the log."""
    count: int
    """How many events it was going to send when it was created, …"""
    count_complete: bool
    """… false: counted in the beginning of the range only, so it is that many at least."""
    matched: int
    """Events passed so far that are for the subscriber, …"""
    sent: int
    """… and those of them that went out again, or are about to; the rest was acknowledged or goes out by itself."""
    progress: float
    """How much of the range lies behind it, from 0 to 1, by time."""
    position: Moment
    """The time up to which the range lies behind it."""
    created_at: Moment
    finished_at: Moment | None
    """When the last of it had been attempted, or when it was cancelled or failed."""
    note: str | None
    """What it waits for, or what it cannot send any more."""


def shown_replay(replay: Replay, subscriber: Subscriber) -> dict[str, Any]:
    """A replay as an answer has it."""
    plan, ending = replay.plan, replay.ending
    notes = [_TRIMMED] if plan.trimmed else []
    if ending is None and not subscriber.enabled:
        notes.append(_WAITS)
    return {
        "id": plan.id,
        "subscriber_id": plan.subscriber_id,
        "status": replay.status,
        "reason": None if ending is None else ending.reason,
        "only": plan.only,
        "event_types": plan.event_types,
        "since": moment(plan.since_ms),
        "begins_at": moment(plan.begins_ms),
        "until": moment(max(plan.until.ms, plan.since_ms)),
        "count": plan.count,
        "count_complete": plan.counted,
        "matched": replay.matched,
        "sent": replay.sent,
        "progress": round(replay.progress, 4),
        "position": moment(max(replay.at.ms, plan.since_ms)),
        "created_at": moment(plan.created_ms),
        "finished_at": None if ending is None else moment(ending.at_ms),
        "note": "; ".join(notes) or None,
    }
