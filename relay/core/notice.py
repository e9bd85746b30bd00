"""The relay's own events about a subscriber: it is failing, it was disabled, it is well again."""

from datetime import datetime

import msgspec

from relay.core.diff import Transition
from relay.core.events import build, rfc3339
from relay.core.health import OWN
from relay.core.model import Details, Event, Observation
from relay.core.subscriber import State, Subscriber

_EVENT_TYPES = {
    "failing": "relay.subscriber.failing",
    "disabled": "relay.subscriber.disabled",
    "ok": "relay.subscriber.recovered",
}


def change_state(
    subscriber: Subscriber, state: State, now: datetime, *, enabled: bool
) -> tuple[Subscriber, Event | None]:
    """The subscriber with a new state, and the event that tells of it; None if the status stays what it was."""
    updated_at = rfc3339(now) or ""
    changed = msgspec.structs.replace(subscriber, state=state, enabled=enabled, updated_at=updated_at)
    before, after = subscriber.state.status, state.status
    if before == after:
        return changed, None
    number = subscriber.notices + 1
    transition = Transition(
        "subscriber", subscriber.id, number, _EVENT_TYPES[after], before, after, {}, None, first_seen=False
    )
    record = {"subscriber_id": subscriber.id, "reason": state.reason, "failing_since": state.failing_since}
    details = Details(None, None, None, None, msgspec.json.encode(record), b"")
    event = build(transition, Observation(OWN, now), details, after=None)
    return msgspec.structs.replace(changed, notices=number), event
