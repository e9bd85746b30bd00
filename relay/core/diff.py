"""From a stored snapshot and a fresh record to transitions: what changed, in order, nothing invented.

The status an event names never skips: an event that does not move the status has `from == to`, so that along an
entity's sequence each `from` equals the previous `to`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from relay.core.model import Details, Family, Record, Snapshot, View

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, int, tuple[int, ...], list[Any]]).decode

Changes = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of an entity's history, as it was seen."""

    entity_kind: str
    entity_id: str
    sequence: int
    event_type: str
    status_from: str | None
    status_to: str
    changes: Changes
    occurred_at: datetime | None
    first_seen: bool
    state: View = ()
    """The entity's tracked fields after the change; together with `changes`, those before it."""


def pack(snapshot: Snapshot) -> bytes:
    """Snapshot as stored (MessagePack); equal snapshots give equal bytes."""
    return _encode(snapshot)


def unpack(stored: bytes, family: Family) -> Snapshot:
    """Read what `pack` wrote."""
    sequence, seen_at_s, marks, values = _decode(stored)
    return Snapshot(sequence, seen_at_s, marks, family.view(values))


def fitted(values: Sequence[Any], kinds: Sequence[tuple[type, ...]]) -> list[Any]:
    """Stored values as this version's view has them: cut or padded to these kinds, None for what is of another kind.

    A snapshot outlives the version that wrote it, and a name may be given to a source of another kind: neither may
    keep a source from being read.
    """
    padded = [*values, *(None for _ in range(len(kinds) - len(values)))]
    return [value if isinstance(value, kind) else None for value, kind in zip(padded, kinds, strict=False)]


def is_older(marks: tuple[int, ...], than: tuple[int, ...]) -> bool:
    """Whether a row is an earlier sight of its entity: something shrank that only grows, and nothing grew."""
    pairs = list(zip(marks, than, strict=False))
    return any(a < b for a, b in pairs) and all(a <= b for a, b in pairs)


def changes_between(fields: tuple[str, ...], old: View, new: View) -> Changes:
    """Tracked fields that differ, by the upstream's names; the status itself is in the transition."""
    return {
        name: {"from": before, "to": after}
        for name, before, after in list(zip(fields, old, new, strict=True))[1:]
        if before != after
    }


def transitions(family: Family, known: Snapshot | None, record: Record, details: Details) -> tuple[Transition, ...]:
    """Events that tell `record` to somebody who knows `known`; numbered on from its sequence."""
    if known is None:
        steps, changes, current = family.first_steps(record.view), {}, None
    else:
        steps = family.steps(known.view, record.view)
        changes = changes_between(family.fields, known.view, record.view)
        current = family.status(known.view)
    told = []
    times = {"started": details.started_at, "ended": details.ended_at, None: None}
    for sequence, step in enumerate(steps, start=1 + (known.sequence if known else 0)):
        arrived = family.status(record.view) if step.moves_status or current is None else current
        told.append(
            Transition(
                family.entity_kind,
                record.entity_id,
                sequence,
                step.event_type,
                current,
                arrived,
                changes,
                times[step.happened],
                known is None,
                record.view,
            )
        )
        current = arrived
    return tuple(told)
