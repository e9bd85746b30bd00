"""What an explanation of an event says."""

from typing import Any, Literal

from pydantic import BaseModel

from relay.admin.delivery_schema import DeliveryOut
from relay.admin.pages import PageQuery
from relay.core.matching import Refusal

WaitReason = Literal["disabled", "no_replica", "resting", "retry", "due", "under_way", "queued"]
Verdict = Literal["delivery", "refused", "registered_later", "passed"]


class ExplainQuery(PageQuery):
    """Which subscribers; they are told of by id, and `cursor` leads on."""

    subscriber_id: str | None = None


class RefusalOut(BaseModel):
    """The first condition that says no."""

    condition: Literal[
        "event_types", "sources", "user_ids", "class_ids", "lab_profile_ids", "activity_ids", "from", "to"
    ]
    allowed: list[str]
    """What the subscriber asks for there."""
    value: str | None
    """What the event has there."""


class WaitOut(BaseModel):
    """Something that a pending delivery waits for, as far as the store knows."""

    reason: WaitReason
    detail: str
    until: str | None
    """When it ends, if that is known."""


class SubscriberExplained(BaseModel):
    """Why a subscriber gets an event, or why not."""

    subscriber_id: str
    description: str
    enabled: bool
    verdict: Verdict
    """`delivery`: there is one, see there. `refused`: see `refused_by`. `registered_later`: the event is older than the
    subscriber. `passed`: it would match now, but did not when it passed, or the record of its attempts has expired."""
    detail: str
    refused_by: RefusalOut | None
    """As the subscriber is now: also of a delivery that was made before its filter was changed."""
    delivery: DeliveryOut | None
    waits: list[WaitOut]
    """Of a pending delivery: all that it waits for."""


class ObservedOut(BaseModel):
    """How an event was seen: it happened between `after` and `at`."""

    after: str | None
    """The latest sight of the entity before; null: it had never been seen."""
    at: str
    within_s: float | None
    poll_interval_s: float | None
    """Of its source as it is set now; null: the relay's own event, or a source that is set no longer."""
    first_seen: bool
    backfill: bool


class EntityRef(BaseModel):
    """What the event is about."""

    kind: str
    id: str


class EventExplained(BaseModel):
    """An event explained: how it was seen, by which rule it was made, and what it came to for each subscriber."""

    event_id: str
    type: str
    source: str
    entity: EntityRef
    sequence: int
    logged_at: str
    """When it entered the log, by the store's clock."""
    observed: ObservedOut
    occurred_at: str | None
    transition: dict[Literal["from", "to"], str | None]
    changes: dict[str, Any]
    rule: str
    """The difference that makes an event of this type."""
    meaning: str
    data: list[SubscriberExplained]
    next_cursor: str | None


def shown_refusal(refused: Refusal | None) -> dict[str, Any] | None:
    """A refusal as it is shown."""
    if refused is None:
        return None
    return {"condition": refused.condition, "allowed": list(refused.allowed), "value": refused.value}
