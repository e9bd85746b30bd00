"""How far a lane has read the log, and how far all of that is settled.

Invariant: `position` never passes an entry that is neither settled nor parked as a retry.
"""

from collections import deque
from collections.abc import Collection

from relay.core.log import Place


class Progress:
    """The places that a lane was offered and that are not settled from the first on."""

    def __init__(self, cursor: Place) -> None:
        self.read_to = cursor
        """Everything up to here has been offered (a live lane: up to the tail)."""
        self._settled_to = cursor
        self._order: deque[Place] = deque()
        self._settled: set[Place] = set()

    @property
    def pending(self) -> bool:
        """Whether anything that was offered holds the position."""
        return bool(self._order)

    @property
    def position(self) -> Place:
        """Everything up to here is settled."""
        return self._settled_to if self._order else self.read_to

    def offered(self, place: Place, after: Place) -> None:
        """An event has been read; between `after` and it there is nothing for this subscriber."""
        if not self._order:
            self._settled_to = max(self.read_to, after)
        self._order.append(place)
        self.read_to = place

    def settle(self, place: Place) -> None:
        """Let the position pass this one, once it may pass all before it."""
        self._settled.add(place)
        while self._order and self._order[0] in self._settled:
            self._settled_to = self._order.popleft()
            self._settled.remove(self._settled_to)

    def take_back(self, unattempted: Collection[Place]) -> set[Place]:
        """Have the latest events read again, as far back as nobody has attempted them; which these are."""
        dropped: set[Place] = set()
        while self._order and self._order[-1] in unattempted:
            dropped.add(self._order.pop())
        if dropped:
            self.read_to = self._order[-1] if self._order else self._settled_to
        return dropped
