"""One subscriber's queue: what it was offered, what is under way, and how far everything is settled.

Invariant: `position` never passes an entry that is neither settled nor parked as a retry. A lane is *live* while the
tail of the log feeds it directly; one that falls behind is fed from the log by its own place, at its own pace.
"""

from collections import deque
from dataclasses import dataclass

from relay.core.envelope import Receiver
from relay.core.log import Entry, Place, Waiting

HIGH, LOW = 1000, 200
"""A live lane with more than HIGH entries waiting falls behind; one with fewer than LOW is fed again."""
RETRY_TURN = 4
"""At least every fourth attempt is a retry, if one is due: live traffic goes first but does not starve them."""


@dataclass(slots=True, eq=False)
class Item:
    """A delivery to be attempted."""

    entry: Entry
    attempt_no: int
    retry: str | None = None
    """Its name among the waiting retries, if it stands there."""
    holds_cursor: bool = True
    """Whether the lane's position waits for it."""
    finished: bool = False


class Lane:
    """The queue of one subscriber."""

    def __init__(self, receiver: Receiver, cursor: Place, *, committed: Place | None) -> None:
        self.receiver = receiver
        self.live = False
        self.closed = False
        """The subscriber is gone."""
        self.read_to = cursor
        """Everything up to here has been offered (a live lane: up to the tail)."""
        self.committed = committed
        """The lane's own cursor as it stands in the store; None: it follows the shard's."""
        self.workers = 0
        self._settled_to = cursor
        self._fresh: deque[Item] = deque()
        self._retries: deque[Item] = deque()
        self._order: deque[Place] = deque()
        self._settled: set[Place] = set()
        self._turn = 0

    @property
    def id(self) -> str:
        """The subscriber's id."""
        return self.receiver.subscriber.id

    @property
    def paused(self) -> bool:
        """Whether nothing can be sent: its position stands still, and the log keeps what it misses."""
        return self.closed or not (self.receiver.subscriber.enabled and self.receiver.keys)

    @property
    def queued(self) -> int:
        """Deliveries that wait for a worker."""
        return len(self._fresh) + len(self._retries)

    @property
    def retries_queued(self) -> int:
        """Retries that wait for a worker."""
        return len(self._retries)

    @property
    def idle(self) -> bool:
        """Whether everything up to the tail is settled."""
        return self.live and not self._order

    @property
    def hungry(self) -> bool:
        """Whether it is to be fed from the log."""
        return not self.live and not self.paused and len(self._fresh) < LOW

    @property
    def position(self) -> Place:
        """Everything up to here is settled."""
        return self._settled_to if self._order else self.read_to

    def offer(self, entry: Entry, after: Place) -> None:
        """Queue an event for its first attempt; between `after` and it there is nothing for this subscriber."""
        if not self._order:
            self._settled_to = max(self.read_to, after)
        self._fresh.append(Item(entry, 1))
        self._order.append(entry.place)
        self.read_to = entry.place
        if len(self._fresh) > HIGH or self.paused:
            self.live = False

    def offer_retry(self, entry: Entry, waiting: Waiting) -> None:
        """Queue a delivery whose next attempt is due."""
        self._retries.append(Item(entry, waiting.attempt_no, str(waiting), holds_cursor=False))

    def drop_retries(self) -> list[str]:
        """Take back the retries that nobody attempts yet; their names."""
        names = [item.retry for item in self._retries if item.retry]
        self._retries.clear()
        return names

    def take(self) -> Item | None:
        """The next delivery to attempt, if there is one."""
        if self.paused:
            return None
        self._turn += 1
        if self._retries and (not self._fresh or self._turn % RETRY_TURN == 0):
            return self._retries.popleft()
        return self._fresh.popleft() if self._fresh else None

    def settle(self, item: Item) -> None:
        """Let the position pass this entry: it is delivered, dead, or waits among the retries."""
        if not item.holds_cursor:
            return
        item.holds_cursor = False
        self._settled.add(item.entry.place)
        while self._order and self._order[0] in self._settled:
            self._settled_to = self._order.popleft()
            self._settled.remove(self._settled_to)

    def pause(self, tail: Place) -> None:
        """Stop being fed by the tail; what is queued stays unsettled and is read again later."""
        if self.live:
            self.live = False
            self.read_to = max(self.read_to, tail)
