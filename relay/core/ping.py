"""`relay.test`: the event that is sent to one subscriber only, to see whether it arrives. It never enters the log."""

from datetime import datetime
from typing import Any

import msgspec

from relay.core.events import named_id, rfc3339
from relay.core.health import OWN
from relay.core.model import Event

TEST_TYPE = "relay.test"

_encode = msgspec.json.Encoder().encode


def ping_event(subscriber_id: str, number: int, now: datetime) -> Event:
    """The `number`-th test for a subscriber, in the shape of every other webhook."""
    identity = named_id(TEST_TYPE, subscriber_id, number)
    at = rfc3339(now)
    payload: dict[str, Any] = {
        "type": TEST_TYPE,
        "timestamp": at,
        "data": {
            "event_id": identity,
            "source": OWN,
            "entity": {"kind": "subscriber", "id": subscriber_id},
            "sequence": number,
            "transition": {"from": None, "to": None},
            "observed": {"after": None, "at": at},
            "occurred_at": None,
            "first_seen": False,
            "backfill": False,
            "user_id": None,
            "class_id": None,
            "changes": {},
            "record": {},
        },
    }
    return Event(identity, TEST_TYPE, OWN, subscriber_id, _encode(payload), b"")
