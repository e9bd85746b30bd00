"""From transitions to events: deterministic ids and the exact payload bytes."""

import base64
import hashlib
from datetime import UTC, datetime

import msgspec

from relay.core.diff import Transition
from relay.core.model import Details, Event, Observation

_encoder = msgspec.json.Encoder()
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def rfc3339(moment: datetime | None) -> str | None:
    """`2026-11-21T17:00:00.123Z`: UTC, milliseconds."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_id(source: str, transition: Transition) -> str:
    """Id of a transition: the same whenever, wherever and however often it is told.

    It hashes what the transition says: the entity's whole state before and after, which distinguishes it from
    another with the same number (after a lost tail, or when a forgotten entity comes back), never when it was seen.
    """
    said = [
        source,
        transition.entity_id,
        transition.sequence,
        transition.event_type,
        transition.status_from,
        transition.status_to,
        sorted((name, change["from"], change["to"]) for name, change in transition.changes.items()),
        rfc3339(transition.occurred_at),
        transition.state,
    ]
    return "evt_" + _short_hash(_encoder.encode(said))


def named_id(*parts: str | int) -> str:
    """Event id of something that is not a transition, such as a test ping: the same parts, the same id."""
    return "evt_" + _short_hash(_encoder.encode(parts))


def _short_hash(data: bytes) -> str:
    # 130 bits: among 10^12 events a collision has a chance below 10^-15.
    return base64.b32encode(hashlib.sha256(data).digest())[:26].decode().lower()


def build(transition: Transition, seen: Observation, details: Details, *, after: datetime | None) -> Event:
    """The event for a transition; `after` is the latest earlier sight of the entity, if there was one."""
    identity = event_id(seen.source, transition)
    payload = {
        "type": transition.event_type,
        "timestamp": rfc3339(seen.at),
        "data": {
            "event_id": identity,
            "source": seen.source,
            "entity": {"kind": transition.entity_kind, "id": transition.entity_id},
            "sequence": transition.sequence,
            "transition": {"from": transition.status_from, "to": transition.status_to},
            "observed": {"after": rfc3339(after), "at": rfc3339(seen.at)},
            "occurred_at": rfc3339(transition.occurred_at),
            "first_seen": transition.first_seen,
            "backfill": seen.backfill,
            "user_id": details.user_id,
            "class_id": details.class_id,
            "changes": transition.changes,
            "record": msgspec.Raw(details.body),
        },
    }
    return Event(
        identity,
        transition.event_type,
        seen.source,
        transition.entity_id,
        _encoder.encode(payload),
        details.private,
    )


def with_private(payload: bytes, private: bytes) -> bytes:
    """Payload for a subscriber that may see the private fields of the record; every value keeps its bytes."""
    if not private:
        return payload
    content = _decode_parts(payload)
    data = _decode_parts(content["data"])
    data["record"] = _raw(_decode_parts(data["record"]) | _decode_parts(private))
    content["data"] = _raw(data)
    return _encoder.encode(content)


def _raw(fields: dict[str, msgspec.Raw]) -> msgspec.Raw:
    return msgspec.Raw(_encoder.encode(fields))
