"""What the tests of the store and of the loops above it share: events without an upstream, and who mints them."""

import json
from collections.abc import Sequence

from relay.core.events import named_id
from relay.core.model import Change, Event
from relay.store import Store

SOURCE = "lod"


def event(
    number: int, event_type: str = "lab.completed", *, entity_id: str = "", user: str = "u1", private: bytes = b""
) -> Event:
    """Event number `number`, with the parts of a payload that filters look at."""
    entity_id = entity_id or f"lab-{number}"
    identity = named_id("test", number, event_type)
    data = {"event_id": identity, "source": SOURCE, "transition": {"from": None, "to": "Complete"}, "user_id": user}
    payload = {"type": event_type, "timestamp": "2026-11-21T17:00:00.000Z", "data": {**data, "record": {}}}
    return Event(identity, event_type, SOURCE, entity_id, json.dumps(payload).encode(), private)


def change(entity_id: str, expected: bytes, new: bytes, *events: Event) -> Change:
    """A change of one entity."""
    return Change(entity_id, expected, new, events)


def first_sights(events: Sequence[Event]) -> list[Change]:
    """One new entity per event."""
    return [Change(one.entity_id, b"", b"1", (one,)) for one in events]


class Minter:
    """Holds the source's lease, and mints."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._token = 0
        self._count = 0
        self._states: dict[str, int] = {}

    async def mint(
        self, count: int, event_type: str = "lab.completed", user: str = "u1", *, entities: Sequence[str] = ()
    ) -> list[str]:
        """Mint so many new events, of an entity each or of these in turn; returns their ids in the order of the log."""
        if not self._token:
            held = await self._store.leases.tick("minter", "poll", [SOURCE], (), ttl_ms=600_000)
            self._token = held.tokens[f"source.{SOURCE}"]
        numbers = range(self._count, self._count + count)
        names = [entities[at % len(entities)] if entities else "" for at in range(count)]
        events = [
            event(number, event_type, entity_id=name, user=user) for number, name in zip(numbers, names, strict=True)
        ]
        self._count += count
        for at in range(0, count, 200):
            changes = [(SOURCE, self._change(one)) for one in events[at : at + 200]]
            await self._store.snapshots.mint(SOURCE, self._token, 1, changes)
        return [one.id for one in events]

    def _change(self, event: Event) -> Change:
        """The next change of an entity."""
        known = self._states.get(event.entity_id, 0)
        self._states[event.entity_id] = known + 1
        return change(event.entity_id, str(known).encode() if known else b"", str(known + 1).encode(), event)
