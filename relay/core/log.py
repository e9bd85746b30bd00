"""Places in the event log, and what is read from it."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec


class Place(NamedTuple):
    """Position in the log: milliseconds and a counter, ordered. `START` lies before everything."""

    ms: int
    no: int

    @classmethod
    def parse(cls, text: str | bytes) -> "Place":
        """Read `1763750000000-0`; raises ValueError."""
        ms, _, no = (text.decode() if isinstance(text, bytes) else text).partition("-")
        return cls(int(ms), int(no or 0))

    def __str__(self) -> str:
        """`1763750000000-0`, as the store writes it."""
        return f"{self.ms}-{self.no}"


START = Place(0, 0)
LAST_NO = 2**64 - 1
"""The greatest counter that a place can have."""
SHELVED_MS = 2**52
"""In place of a due time: the delivery's time has come, and it waits until its subscriber may be sent to."""
BEHIND_MS = SHELVED_MS + 1
"""In place of a due time: the delivery waits for an earlier event of its entity, and is due once that is settled."""


def just_before(ms: int) -> Place:
    """The place after which the events of this millisecond stand."""
    return Place(ms - 1, LAST_NO) if ms > 0 else START


def due_at(due_ms: int | None) -> int | None:
    """When a waiting delivery is due, Unix ms; None if that is not a matter of time."""
    return None if due_ms is None or due_ms >= SHELVED_MS else due_ms


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as it stands in the log; without a payload it was erased, and is for nobody."""

    place: Place
    event_id: str
    event_type: str
    source: str
    entity_id: str
    payload: bytes
    private: bytes

    @property
    def erased(self) -> bool:
        """Whether what it said was erased, because it spoke of a learner who is to be forgotten."""
        return not self.payload

    def without_payload(self) -> "Entry":
        """The event as it is once it was erased."""
        return replace(self, payload=b"", private=b"")


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """One attempt as it is kept: times in Unix milliseconds."""

    subscriber_id: str
    place: str
    """Where the event stands in the log."""
    event_id: str
    event_type: str
    attempt_no: int
    started_ms: int
    duration_ms: int
    outcome: str
    status: int | None
    verdict: str
    next_ms: int | None
    """When the next attempt is due, if there will be one."""
    detail: str
    body: bytes
    """Beginning of the answer to a failed attempt."""
    dns_ms: int | None = None
    """How long the phases took; None where there was none (a connection that was used before, a failure)."""
    connect_ms: int | None = None
    first_byte_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that waits for its next attempt."""

    subscriber_id: str
    place: Place
    attempt_no: int
    """Number of the attempt that is due."""

    @classmethod
    def parse(cls, member: bytes) -> "Waiting":
        """Read what `str` wrote."""
        subscriber_id, place, attempt_no = member.decode().split("|")
        return cls(subscriber_id, Place.parse(place), int(attempt_no))

    def __str__(self) -> str:
        """One text per (delivery, attempt number)."""
        return f"{self.subscriber_id}|{self.place}|{self.attempt_no}"
