"""What is sent to a subscriber: the body in its format, and the headers with the signatures over exactly that body."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from relay.core.events import with_private
from relay.core.log import Entry
from relay.core.signing import Key, sign_with_key
from relay.core.subscriber import Subscriber

STANDARD_TYPE = "application/json"
CLOUDEVENTS_TYPE = "application/cloudevents+json"
MAX_PAYLOAD_BYTES: Final = 256 * 1024
"""What a body may have unless the settings say otherwise: about what receivers and their proxies take."""

_encode = msgspec.json.Encoder().encode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A subscriber's key; after `until` (None: never) it no longer signs."""

    key: Key = field(repr=False)
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Receiver:
    """A subscriber as the sender needs it: with its keys in the clear."""

    subscriber: Subscriber
    keys: Sequence[SigningKey]


def body_for(receiver: Receiver, entry: Entry) -> bytes:
    """The bytes that are signed and sent."""
    payload = with_private(entry.payload, entry.private) if receiver.subscriber.include_pii else entry.payload
    return payload if receiver.subscriber.format == "standard" else _cloudevent(payload, entry)


def headers_for(receiver: Receiver, event_id: str, body: bytes, now: datetime, agent: str) -> dict[str, str]:
    """Standard Webhooks headers for an attempt at `now`; several signatures while rotations overlap.

    A subscriber's own headers cannot replace these, however they are spelt.
    """
    timestamp_s = int(now.timestamp())
    signatures = [
        sign_with_key(one.key, event_id, timestamp_s, body)
        for one in receiver.keys
        if one.until is None or now < one.until
    ]
    standard = receiver.subscriber.format == "standard"
    own = {
        "content-type": STANDARD_TYPE if standard else CLOUDEVENTS_TYPE,
        "user-agent": agent,
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(signatures),
    }
    # Header names are case-insensitive, a dict's keys are not: `Webhook-Id` would be sent next to `webhook-id`.
    return {name: text for name, text in receiver.subscriber.headers.items() if name.lower() not in own} | own


def _cloudevent(payload: bytes, entry: Entry) -> bytes:
    """CloudEvents 1.0, structured mode; `source` and `id` together are unique, as the specification asks."""
    parts = _decode_parts(payload)
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": entry.event_id,
        "source": f"/sources/{entry.source}",
        "type": entry.event_type,
        "subject": entry.entity_id,
        "time": parts["timestamp"],
        "datacontenttype": "application/json",
        "data": parts["data"],
    }
    return _encode(event)
