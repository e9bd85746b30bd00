"""The latest changes that the store has confirmed, kept in case it turns out to have forgotten them.

Invariant: what is kept is a suffix of each entity's chain of snapshots, without a hole, so that it can be minted
again by compare-and-set from whatever state within it the store has fallen back to. Changes without events belong to
the chain as well.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime

from relay.core.model import Change

MAX_CHANGES = 20_000
"""Above the number of entities of most sources: the daily refresh of all of them must not push the events out."""
MAX_BYTES = 16_000_000
OVERHEAD_BYTES = 400
"""About what the objects of one change take beside their bytes."""


class Tail:
    """Changes in the order in which they were committed, bounded by number and by size."""

    def __init__(self, *, max_changes: int = MAX_CHANGES, max_bytes: int = MAX_BYTES) -> None:
        self._kept: deque[tuple[datetime, Change]] = deque()
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        self._bytes = 0

    def extend(self, changes: Sequence[Change], at: datetime) -> None:
        """Keep these; the oldest ones go where the bounds are reached.

        An entity that is removed goes with all its changes: minted again, its first one would bring it back to life.
        """
        removed = {change.entity_id for change in changes if not change.new}
        if removed:
            self._kept = deque(pair for pair in self._kept if pair[1].entity_id not in removed)
            self._bytes = sum(_size(change) for _, change in self._kept)
        for change in changes:
            if change.new:
                self._kept.append((at, change))
                self._bytes += _size(change)
        while self._bytes > self._max_bytes or len(self._kept) > self._max_changes:
            self._bytes -= _size(self._kept.popleft()[1])

    def forget(self, is_meant: Callable[[Change], bool]) -> None:
        """Drop these changes, and with each all others of its entity: a chain with a hole is of no use."""
        kept = tuple(self._kept)
        entities = {change.entity_id for _, change in kept if is_meant(change)}
        self._kept = deque(pair for pair in kept if pair[1].entity_id not in entities)
        self._bytes = sum(_size(change) for _, change in self._kept)

    def since(self, start: datetime) -> list[Change]:
        """The changes that were committed from `start` on."""
        return [change for at, change in self._kept if at >= start]


def _size(change: Change) -> int:
    events = sum(len(event.payload) + len(event.private) + OVERHEAD_BYTES for event in change.events)
    return len(change.expected) + len(change.new) + OVERHEAD_BYTES + events


def outside(changes: Sequence[Change], conflicts: Sequence[str]) -> set[str]:
    """Entities of which none of these changes applied or had been done: the store knows a state that is not among them.

    A conflict alone means little: where the store stands in the middle of a chain, the links before are in conflict.
    """
    links: dict[str, int] = {}
    for change in changes:
        links[change.entity_id] = links.get(change.entity_id, 0) + 1
    for entity_id in conflicts:
        links[entity_id] -= 1
    return {entity_id for entity_id in conflicts if links[entity_id] == 0}
