"""Which subscribers an event is for: type patterns first (an index), then filters."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from relay.core.subscriber import Filter, Subscriber


class _Transition(msgspec.Struct, rename={"from_": "from"}):
    from_: str | None
    to: str | None


class _Record(msgspec.Struct):
    lab_profile_id: Any = msgspec.field(name="LabProfileId", default=None)
    activity_id: Any = None


class _Data(msgspec.Struct):
    source: str
    transition: _Transition
    user_id: str | None = None
    class_id: str | None = None
    record: _Record = msgspec.field(default_factory=_Record)


class _Payload(msgspec.Struct):
    data: _Data


_decode = msgspec.json.Decoder(_Payload).decode


def type_matches(pattern: str, event_type: str) -> bool:
    """Whether a pattern covers a type: exact, a final `*` for one or more segments, a leading `*` for one."""
    if pattern in ("*", event_type):
        return True
    wanted, given = pattern.split("."), event_type.split(".")
    if wanted[-1] == "*":
        if len(given) < len(wanted):
            return False
        wanted, given = wanted[:-1], given[: len(wanted) - 1]
    return len(wanted) == len(given) and wanted[1:] == given[1:] and wanted[0] in ("*", given[0])


def wants_type(subscriber: Subscriber, event_type: str) -> bool:
    """Whether any of the subscriber's patterns covers the type."""
    return any(type_matches(pattern, event_type) for pattern in subscriber.event_types)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The condition that says no."""

    condition: str
    """The field of the filter, or `event_types`."""
    allowed: tuple[str, ...]
    value: str | None
    """What the event has there."""


def filter_refusal(condition: Filter, payload: bytes) -> str | None:
    """Name of the first condition that an event does not meet, or None if it meets all; an erased one meets none."""
    refused = _refused_by(condition, payload)
    return None if refused is None else refused.condition


def _refused_by(condition: Filter, payload: bytes) -> Refusal | None:
    if not payload:
        return Refusal("erased", (), None)
    if condition == _ANY:
        return None
    data = _decode(payload).data
    checks: Iterable[tuple[str, tuple[str, ...], Any]] = (
        ("sources", condition.sources, data.source),
        ("user_ids", condition.user_ids, data.user_id),
        ("class_ids", condition.class_ids, data.class_id),
        ("lab_profile_ids", condition.lab_profile_ids, data.record.lab_profile_id),
        ("activity_ids", condition.activity_ids, data.record.activity_id),
        ("from", condition.from_, data.transition.from_),
        ("to", condition.to, data.transition.to),
    )
    for name, allowed, value in checks:
        if allowed and (value is None or str(value) not in allowed):
            return Refusal(name, allowed, None if value is None else str(value))
    return None


_ANY = Filter()


def refusal(event_types: Sequence[str], condition: Filter, event_type: str, payload: bytes) -> Refusal | None:
    """What refuses an event, the types first; None: it is for whoever asks so."""
    if not any(type_matches(pattern, event_type) for pattern in event_types):
        return Refusal("event_types", tuple(event_types), event_type)
    return _refused_by(condition, payload)


def matches(subscriber: Subscriber, event_type: str, payload: bytes) -> bool:
    """Whether an event is for a subscriber, by type and filter."""
    return wants_type(subscriber, event_type) and filter_refusal(subscriber.filter, payload) is None


class TypeIndex:
    """From an event type to the subscribers that asked for it, remembered per type."""

    def __init__(self, subscribers: Iterable[Subscriber]) -> None:
        self._subscribers = tuple(subscribers)
        self._known: dict[str, tuple[Subscriber, ...]] = {}

    def candidates(self, event_type: str) -> tuple[Subscriber, ...]:
        """Subscribers whose patterns cover the type; their filters are still to be asked."""
        found = self._known.get(event_type)
        if found is None:
            found = tuple(one for one in self._subscribers if wants_type(one, event_type))
            self._known[event_type] = found
        return found
