"""A replay: a range of the log that goes to one subscriber again, and how far that has come.

Invariant: what was asked for is fixed when it is created, its end included: it is a bounded piece of work, and what is
minted meanwhile is sent as ever.
"""

from dataclasses import dataclass
from typing import Literal

import msgspec

from relay.core.log import Entry, Place
from relay.core.matching import matches, type_matches
from relay.core.subscriber import Subscriber

Only = Literal["undelivered", "all"]
Status = Literal["running", "done", "cancelled", "failed"]


class Plan(msgspec.Struct, frozen=True, array_like=True):
    """What was asked for. Times are Unix milliseconds of the store's clock."""

    id: str
    subscriber_id: str
    after: Place
    """The range begins after this place, …"""
    until: Place
    """… and ends with this one."""
    event_types: tuple[str, ...]
    """Patterns, of which one must cover the type; none: any type."""
    only: Only
    since_ms: int
    created_ms: int
    begins_ms: int | None
    """When the first event of the range entered the log; None: the range is empty."""
    trimmed: bool
    """Events of the time that was asked for have outlived their retention."""
    count: int
    """How many events it will send, as far as they were counted at the beginning."""
    counted: bool
    """Whether that was all of the range."""

    def covers(self, subscriber: Subscriber, entry: Entry) -> bool:
        """Whether an event of the range is meant: the subscriber as it is now must want it."""
        meant = not self.event_types or any(type_matches(one, entry.event_type) for one in self.event_types)
        return meant and matches(subscriber, entry.event_type, entry.payload)


class Ending(msgspec.Struct, frozen=True, array_like=True):
    """How a replay ended."""

    status: Status
    at_ms: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay as it stands."""

    plan: Plan
    at: Place
    """Everything up to here is done."""
    matched: int
    """Events of the range that were for this subscriber."""
    sent: int
    """Those that went out again because of it; the rest was acknowledged, or goes out by itself."""
    ending: Ending | None

    @property
    def status(self) -> Status:
        """Where it stands."""
        return "running" if self.ending is None else self.ending.status

    @property
    def progress(self) -> float:
        """How much of the range lies behind it, from 0 to 1, by time: events are not counted for it."""
        plan = self.plan
        if self.at >= plan.until:
            return 1.0
        begun = plan.after.ms if plan.begins_ms is None else plan.begins_ms
        return min(max(self.at.ms - begun, 0) / max(plan.until.ms - begun, 1), 1.0)
