"""The nouns of the relay: records, snapshots, transitions, events.

A *family* (labs, sessions) supplies what is particular to one upstream; everything else is written once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

View = tuple[Any, ...]
"""The tracked fields of an entity in the family's order: JSON scalars, compared with `==`."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row that an upstream returned, read as far as the diff needs it."""

    entity_id: str
    view: View
    marks: tuple[int, ...]
    """Values that only ever grow while the row gets newer (empty where the upstream has none)."""
    raw: bytes
    """The row as it came, one JSON object."""


@dataclass(frozen=True, slots=True)
class Details:
    """What an event says about its record beyond the tracked fields; read only when something changed."""

    started_at: datetime | None
    ended_at: datetime | None
    user_id: str | None
    class_id: str | None
    body: bytes
    """The row as JSON, without the private fields (IP address and geolocation)."""
    private: bytes
    """The private fields that have a value, as one JSON object; empty if there are none."""


class Snapshot(NamedTuple):
    """The last known state of one entity."""

    sequence: int
    """Number of the entity's latest event; 0 after a silent baseline."""
    seen_at_s: int
    """Unix seconds of an observation that showed this state."""
    marks: tuple[int, ...]
    view: View


class Step(NamedTuple):
    """One event that a diff calls for."""

    event_type: str
    moves_status: bool = False
    """Whether this is the event that carries the entity from the old status to the new one."""
    happened: Literal["started", "ended"] | None = None
    """Which of the upstream's own times says when it happened, if one does."""


class Family(Protocol):
    """What is particular to one kind of entity: how its rows are read and what its changes mean."""

    @property
    def entity_kind(self) -> str:
        """`lab_instance` or `session`."""
        ...

    @property
    def id_field(self) -> str:
        """The upstream's name of the field with the entity's id."""
        ...

    @property
    def fields(self) -> tuple[str, ...]:
        """The upstream's names of the tracked fields, in the view's order."""
        ...

    @property
    def learner_at(self) -> int | None:
        """Where in the view the learner's id stands; None: it is no part of it."""
        ...

    def read(self, raw: bytes, now: datetime) -> Record:
        """Read one row; raises `InvalidRecordError` if it cannot be trusted."""
        ...

    def details(self, record: Record) -> Details:
        """Read the rest of a row that `read` accepted; raises `InvalidRecordError` if that cannot be passed on."""
        ...

    def status(self, view: View) -> str:
        """Name the status in the upstream's words."""
        ...

    def is_open(self, view: View) -> bool:
        """Whether the entity's life still goes on."""
        ...

    def first_steps(self, view: View) -> Sequence[Step]:
        """Events for an entity that was never seen before."""
        ...

    def steps(self, old: View, new: View) -> Sequence[Step]:
        """Events for a change from `old` to `new`, in the order in which they are emitted."""
        ...

    def view(self, values: Sequence[Any]) -> View:
        """Restore a view from its stored values, which another version, or another kind of source, may have written."""
        ...


@dataclass(frozen=True, slots=True)
class Observation:
    """The circumstances in which a record was seen."""

    source: str
    at: datetime
    """When the answer had arrived."""
    backfill: bool = False
    """The record was seen while catching up, not as it happened."""
    asked_at: datetime | None = None
    """Before the upstream was asked: what it answers with is no older than this (None: as of its arrival)."""

    @property
    def true_at(self) -> datetime:
        """The latest time at which the record is sure to have been true."""
        return self.at if self.asked_at is None else min(self.asked_at, self.at)  # a clock may have been set back


@dataclass(frozen=True, slots=True)
class Event:
    """An immutable fact; `id` is deterministic and is the `webhook-id`."""

    id: str
    type: str
    source: str
    entity_id: str
    payload: bytes
    """The exact JSON that is signed and sent in the `standard` format, without private fields."""
    private: bytes
    """JSON object of private record fields for subscribers with `include_pii`; usually empty."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entity's new state together with the events that say so; committed as one."""

    entity_id: str
    expected: bytes
    """The packed snapshot that must be stored for this change to apply; empty if none."""
    new: bytes
    events: tuple[Event, ...]
