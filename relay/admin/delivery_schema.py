"""Deliveries as they are asked for and shown.

A delivery is an event on its way to a subscriber, so its id is made of theirs and can be taken apart again.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, model_validator

from relay.admin.attempt_schema import AttemptOut, moment, shown_attempt
from relay.admin.dead_letters import Conditions
from relay.admin.examples import DELIVERY, DELIVERY_SUMMARY, WAIT
from relay.admin.fields import Described, EventId, Instant, Moment, SubscriberId, example
from relay.admin.ledger import Cause, DeliveryStatus, Found, Seen
from relay.admin.pages import PageQuery
from relay.admin.subscriber_schema import Pattern

WaitReason = Literal["disabled", "no_replica", "resting", "retry", "due", "under_way", "queued", "entity"]
_ID: Final = re.compile(r"dlv_([0-9A-Za-z]+)_([0-9a-z]+)")


_ONLY_DEAD: Final = "cause is known of dead letters only: give status=dead with it"
WAITS: Final = "its subscriber is disabled: it goes out once that is enabled"
IN_TURN: Final = "it waits for an earlier event of its entity: it goes out once that is delivered or a dead letter"


class DeliveriesQuery(PageQuery):
    """Which deliveries."""

    subscriber_id: SubscriberId | None = None
    """Of a deleted one too, while its attempts are on record. One that is not known has no deliveries."""
    event_id: EventId | None = None
    status: DeliveryStatus | None = None
    event_type: Pattern | None = None
    """A type, or a pattern as in a subscription."""
    cause: Cause | None = None
    """Whose failure a dead letter is; with `status=dead` only."""

    @model_validator(mode="after")
    def _cause_of_death(self) -> "DeliveriesQuery":
        if self.cause is not None and self.status != "dead":
            raise ValueError(_ONLY_DEAD)
        return self

    def conditions(self) -> Conditions:
        """Which of a list are meant."""
        return Conditions(() if self.event_type is None else (self.event_type,), self.cause)


class RedeliverIn(Described):
    """Which deliveries are to be made again: those of a subscriber, those of an event, or all; and of these which."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"all": True, "status": "dead", "cause": "relay", "since": "2026-11-21T00:00:00Z"}],
            "if": {"required": ["cause"], "properties": {"cause": {"type": "string"}}},
            "then": {"properties": {"status": {"const": "dead"}}},
            "anyOf": [
                {"required": ["subscriber_id"], "properties": {"subscriber_id": {"type": "string"}}},
                {"required": ["event_id"], "properties": {"event_id": {"type": "string"}}},
                {"required": ["all"], "properties": {"all": {"const": True}}},
            ],
        },
    )

    subscriber_id: SubscriberId | None = None
    event_id: EventId | None = None
    all: Literal[True] | None = None
    """Every subscriber's; to be said, so that nobody does it by leaving a field out."""
    status: Literal["dead", "pending", "delivered"] = "dead"
    event_types: Annotated[list[Pattern], Field(min_length=1, max_length=50)] | None = None
    since: Instant | None = None
    """When the event entered the log: from here on, …"""
    until: Instant | None = None
    """… and before this."""
    cause: Cause | None = None

    @model_validator(mode="after")
    def _says_whose(self) -> "RedeliverIn":
        if self.subscriber_id is None and self.event_id is None and self.all is None:
            raise ValueError('give subscriber_id or event_id, or {"all": true} if every delivery is meant')
        if self.cause is not None and self.status != "dead":
            raise ValueError(_ONLY_DEAD)
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("until must be later than since")
        return self

    def conditions(self) -> Conditions:
        """Which of those in that status are meant."""
        since_ms = 0 if self.since is None else int(self.since.timestamp() * 1000)
        until_ms = None if self.until is None else int(self.until.timestamp() * 1000)
        return Conditions(tuple(self.event_types or ()), self.cause, max(since_ms, 0), until_ms)


class RedeliveredCount(Described):
    """How many deliveries were made due now."""

    model_config = ConfigDict(json_schema_extra=example({"count": 12, "note": None}))

    count: int
    note: str | None
    """Says so if subscribers that this names are disabled or rest: what is theirs waits for them."""


class WaitOut(Described):
    """Something that a pending delivery waits for, as far as the store knows."""

    reason: WaitReason
    detail: str
    until: Moment | None
    """When it ends, if that is known."""


class DeliverySummary(Described):
    """A delivery in a list."""

    model_config = ConfigDict(json_schema_extra=example(DELIVERY_SUMMARY))

    id: str | None
    """Null, as the event's id: the event was trimmed, and no attempt tells of it any more."""
    event_id: str | None
    event_type: str | None
    event_at: Moment
    """When the event entered the log."""
    subscriber_id: str
    status: DeliveryStatus
    attempts: int | None
    """Number of the latest attempt; a redelivery counts from 1 again, a probe that was held does not count; null where
    their record has expired."""
    next_attempt_at: Moment | None
    """Of a pending one; not before its subscriber's rest ends. Null: that is no matter of time, see `waits_for`."""
    waits_for: WaitReason | None
    """Of a pending one, what keeps it: it stands behind others (`queued`, `entity`), its time has not come (`retry`) or
    has (`due`), or nothing goes to its subscriber just now (`resting`, `disabled`)."""
    cause: Cause | None
    """Of a dead letter: whose failure it is. `relay` if its proxy failed, the body was too large, or the event outlived
    its retention; null where the record has expired."""
    died_at: Moment | None
    """Of a dead letter: when it was given up."""


class DeliveryOut(Described):
    """A delivery with its attempts, oldest first."""

    model_config = ConfigDict(json_schema_extra=example(DELIVERY))

    id: str
    event_id: str
    event_type: str
    event_at: Moment
    subscriber_id: str
    status: DeliveryStatus
    attempts: Sequence[AttemptOut]
    attempts_complete: bool
    """False: the search for more attempts was given up, or the record has expired."""
    next_attempt_at: Moment | None
    cause: Cause | None
    died_at: Moment | None
    """Of a dead one: when it was given up."""


class DeliveryInFull(DeliveryOut):
    """A delivery with its attempts, oldest first, and what it waits for."""

    model_config = ConfigDict(json_schema_extra=example({**DELIVERY, "waits": [WAIT]}))

    waits: list[WaitOut]
    """Of a pending one: all that it waits for."""


class RedeliveredOut(DeliveryInFull):
    """A delivery that is made again."""

    model_config = ConfigDict(json_schema_extra=example({**DELIVERY, "waits": [WAIT], "note": None}))

    note: str | None
    """Says so if it has to wait for its subscriber, or for an earlier event of its entity."""


def delivery_id(subscriber_id: str, event_id: str) -> str:
    """`dlv_SUBSCRIBER_EVENT`, without their own prefixes."""
    return f"dlv_{subscriber_id.removeprefix('sub_')}_{event_id.removeprefix('evt_')}"


def parse_delivery_id(text: str) -> tuple[str, str] | None:
    """Subscriber and event of a delivery's id, or None if it is none."""
    match = _ID.fullmatch(text)
    return None if match is None else (f"sub_{match[1]}", f"evt_{match[2]}")


def shown_delivery(seen: Seen, waits_for: WaitReason | None) -> dict[str, Any]:
    """A delivery in a list."""
    return {**_shown(seen), "waits_for": waits_for}


def _shown(seen: Seen) -> dict[str, Any]:
    return {
        "id": delivery_id(seen.subscriber_id, seen.event_id) if seen.event_id else None,
        "event_id": seen.event_id,
        "event_type": seen.event_type,
        "event_at": moment(seen.place.ms),
        "subscriber_id": seen.subscriber_id,
        "status": seen.status,
        "attempts": seen.attempts,
        "next_attempt_at": moment(seen.next_ms),
        "cause": seen.cause,
        "died_at": moment(seen.died_ms),
    }


def shown_in_full(found: Found) -> dict[str, Any]:
    """A delivery with its attempts."""
    history = found.history
    attempts = [shown_attempt(one) for one in (*history.former, *history.attempts)]
    complete = history.complete and history.former_complete
    return {**_shown(found.seen), "attempts": attempts, "attempts_complete": complete}
