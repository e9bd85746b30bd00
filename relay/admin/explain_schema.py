"""What an explanation of an event says."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from relay.admin.delivery_schema import DeliveryOut, WaitOut
from relay.admin.examples import EXPLANATION
from relay.admin.fields import Described, Moment, example
from relay.admin.pages import PageQuery
from relay.core.matching import Refusal

Verdict = Literal["delivery", "refused", "registered_later", "passed"]


class ExplainQuery(PageQuery):
    """Which subscribers; they are told of by id, and `cursor` leads on."""

    subscriber_id: str | None = None
    """Only this one."""


class RefusalOut(Described):
    """The first condition that says no."""

    condition: Literal[
        "event_types", "sources", "user_ids", "class_ids", "lab_profile_ids", "activity_ids", "from", "to"
    ]
    allowed: list[str]
    """What the subscriber asks for there."""
    value: str | None
    """What the event has there."""


class SubscriberExplained(Described):
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


class ObservedOut(Described):
    """How an event was seen: it happened between `after` and `at`."""

    after: Moment | None
    """The latest sight of the entity before; null: it had never been seen."""
    at: Moment
    within_s: float | None
    poll_interval_s: float | None
    """Of its source as it is set now; null: the relay's own event, or a source that is set no longer."""
    first_seen: bool
    backfill: bool


class EntityRef(Described):
    """What the event is about."""

    kind: str
    id: str


class TransitionOut(Described):
    """From which status to which; the same, where the event moves none."""

    from_: str | None = Field(alias="from")
    to: str | None


class EventExplained(Described):
    """An event explained: how it was seen, by which rule it was made, and what it came to for each subscriber."""

    model_config = ConfigDict(json_schema_extra=example(EXPLANATION))

    event_id: str
    type: str
    source: str
    entity: EntityRef
    sequence: int
    logged_at: Moment
    """When it entered the log, by the store's clock."""
    observed: ObservedOut
    occurred_at: Moment | None
    transition: TransitionOut
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
