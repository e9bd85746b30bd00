"""Deliveries as they are asked for and shown.

A delivery is an event on its way to a subscriber, so its id is made of theirs and can be taken apart again.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel

from relay.admin.attempt_schema import AttemptOut, moment, shown_attempt
from relay.admin.ledger import DeliveryStatus, History, Seen
from relay.admin.pages import PageQuery

_ID: Final = re.compile(r"dlv_([0-9A-Za-z]+)_([0-9a-z]+)")


class DeliveriesQuery(PageQuery):
    """Which deliveries."""

    subscriber_id: str | None = None
    event_id: str | None = None
    status: DeliveryStatus | None = None


class DeliverySummary(BaseModel):
    """A delivery in a list."""

    id: str
    event_id: str
    event_type: str
    subscriber_id: str
    status: DeliveryStatus
    attempts: int | None
    """Attempts made; null where their record has expired."""
    next_attempt_at: str | None


class DeliveryOut(BaseModel):
    """A delivery with its attempts, oldest first."""

    id: str
    event_id: str
    event_type: str
    subscriber_id: str
    status: DeliveryStatus
    attempts: Sequence[AttemptOut]
    attempts_complete: bool
    """False: the search for more attempts was given up."""
    next_attempt_at: str | None


def delivery_id(subscriber_id: str, event_id: str) -> str:
    """`dlv_SUBSCRIBER_EVENT`, without their own prefixes."""
    return f"dlv_{subscriber_id.removeprefix('sub_')}_{event_id.removeprefix('evt_')}"


def parse_delivery_id(text: str) -> tuple[str, str] | None:
    """Subscriber and event of a delivery's id, or None if it is none."""
    match = _ID.fullmatch(text)
    return None if match is None else (f"sub_{match[1]}", f"evt_{match[2]}")


def shown_delivery(seen: Seen) -> dict[str, Any]:
    """A delivery in a list."""
    return {
        "id": delivery_id(seen.subscriber_id, seen.event_id),
        "event_id": seen.event_id,
        "event_type": seen.event_type,
        "subscriber_id": seen.subscriber_id,
        "status": seen.status,
        "attempts": seen.attempts,
        "next_attempt_at": moment(seen.next_ms),
    }


def shown_in_full(seen: Seen, history: History) -> dict[str, Any]:
    """A delivery with its attempts."""
    attempts = [shown_attempt(one) for one in history.attempts]
    return {**shown_delivery(seen), "attempts": attempts, "attempts_complete": history.complete}
