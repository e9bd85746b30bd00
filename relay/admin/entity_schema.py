"""What is told of an entity: last known state, its events with their deliveries, and why there was no further one."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
from pydantic import ConfigDict, Field

from relay.admin.attempt_schema import moment
from relay.admin.delivery_schema import DeliverySummary
from relay.admin.examples import ENTITY, ENTITY_EXPLANATION
from relay.admin.explain_schema import EntityRef
from relay.admin.feed import FeedItem, item
from relay.admin.fields import Described, Digits, Moment, example
from relay.admin.pages import PageQuery
from relay.core.diff import unpack
from relay.core.events import rfc3339
from relay.core.lab import LabFamily
from relay.core.log import Entry
from relay.core.model import Family, Snapshot
from relay.core.session import SessionFamily

MAX_TIMELINE: Final = 50
FAMILIES: Final[Mapping[str, Family]] = {"lod": LabFamily(), "learnosity": SessionFamily()}
"""By the kind of the source; whether it tells of progress makes no difference to what is stored."""

NoEventReason = Literal[
    "never_seen",
    "not_polled_yet",
    "baseline",
    "unchanged",
    "not_shown_lately",
    "quarantined",
    "held_back",
    "source_failing",
    "source_overdue",
]


class TimelineQuery(PageQuery):
    """Which part of the timeline."""

    limit: Digits = Field(default=20, ge=1, le=MAX_TIMELINE)
    """How many events a page may have; it is shorter where many deliveries have to be looked up."""


class EntityState(Described):
    """What an entity was like when it was last seen to differ from before."""

    status: str
    """In the upstream's words."""
    open: bool
    """Whether its life goes on."""
    sequence: int
    """Number of its latest event; 0: it has had none since the first, silent poll."""
    fields: dict[str, Any]
    """The tracked fields by the upstream's names: what the next row is compared with."""
    seen_at: Moment
    """A sight of it in this state; that it still is unchanged is noted once a day."""


class TimelineItem(FeedItem):
    """An event of the entity with its deliveries."""

    model_config = ConfigDict(json_schema_extra=example(ENTITY["data"][0]))

    logged_at: Moment
    """When it entered the log, by the store's clock."""
    deliveries: list[DeliverySummary]
    """One per subscriber that gets it, by the subscriber's id."""


class EntityOut(Described):
    """An entity: its last known state, and its events in order."""

    model_config = ConfigDict(json_schema_extra=example(ENTITY))

    source: str
    entity: EntityRef
    state: EntityState | None
    """Null: the state is kept no longer (RELAY_RETENTION__ENTITIES_S), or it is an entity of the relay itself."""
    data: list[TimelineItem]
    next_cursor: str | None


class LastEvent(Described):
    """The latest event of an entity that is kept."""

    event_id: str
    type: str
    sequence: int | None
    """Null: what it said was erased together with its learner."""
    logged_at: Moment


class NoEvent(Described):
    """Something that explains why there is no (further) event."""

    reason: NoEventReason
    detail: str


class EntityExplained(Described):
    """Why there was no further event of an entity, as far as is known."""

    model_config = ConfigDict(json_schema_extra=example(ENTITY_EXPLANATION))

    source: str
    id: str
    state: EntityState | None
    """What the next row is compared with; null: the next row is a first sight."""
    next_sequence: int
    """The number that its next event gets."""
    last_event: LastEvent | None
    last_poll_at: Moment | None
    last_good_poll_at: Moment | None
    next_poll_at: Moment | None
    no_event: list[NoEvent]


def shown_state(snapshot: Snapshot, family: Family) -> dict[str, Any]:
    """A state as it is shown."""
    return {
        "status": family.status(snapshot.view),
        "open": family.is_open(snapshot.view),
        "sequence": snapshot.sequence,
        "fields": dict(zip(family.fields, snapshot.view, strict=True)),
        "seen_at": rfc3339(datetime.fromtimestamp(snapshot.seen_at_s, UTC)),
    }


def read_state(packed: bytes | None, family: Family | None) -> Snapshot | None:
    """A stored snapshot; one that no family can read is as good as none."""
    if packed is None or family is None:
        return None
    try:
        return unpack(packed, family)
    except msgspec.MsgspecError:
        return None


def shown_item(entry: Entry, deliveries: list[dict[str, Any]]) -> dict[str, Any]:
    """An event of a timeline."""
    return {**item(entry), "logged_at": moment(entry.place.ms), "deliveries": deliveries}
