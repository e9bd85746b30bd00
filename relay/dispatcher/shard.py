"""One delivery shard that this replica holds: its lanes, and the group of results that is committed next."""

import asyncio
import random
from collections import deque
from itertools import islice

from relay.core.log import SHELVED_MS, Place
from relay.dispatcher.item import Item
from relay.dispatcher.lane import PROBES, Lane
from relay.store.deliveries import SHARD_CURSOR, Group

SLOW_S = 1.0
"""An attempt that takes longer is parked among the retries, so that the cursor does not wait for it."""
PARK_MARGIN_S = 5.0
"""A parked attempt is due again this long after its time-out: only if its holder has died meanwhile."""


class Shard:
    """State of a shard under one fencing token."""

    def __init__(self, number: int, token: int, cursor: Place | None, *, mark: str) -> None:
        self.number = number
        self.token = token
        self.mark = mark
        """Of the latest commit that is known to stand in the store."""
        self._name = f"{token}-{random.getrandbits(32):08x}"
        self._commits = 0
        self.lanes: dict[str, Lane] = {}
        self.cursor = cursor
        """The shard's cursor as it stands in the store."""
        self.wake_ms: int | None = None
        """When the first retry is due, by the store's clock."""
        self.claimed: set[str] = set()
        """Retries that are queued or under way here."""
        self.touched: set[Lane] = set()
        self.in_flight = 0
        self.group = Group()
        self.unconfirmed: Group | None = None
        """A commit whose answer is missing: repeated with the same mark before any other."""
        self.committed_at = 0.0
        self.put_off_after: tuple[int, str] | None = (SHELVED_MS, "")
        """How far the retries that a former holder has put off have been read; None: all are."""
        self.lock = asyncio.Lock()
        """Held by a commit and by a look for due retries, so that no retry is found that is being settled."""
        self._under_way: dict[Item, Lane] = {}
        self._quick: deque[tuple[float, Lane, Item]] = deque()
        """Attempts that hold the cursor, the oldest first."""

    def wake_by(self, due_ms: int) -> None:
        """Look for due retries at this time at the latest."""
        if due_ms < SHELVED_MS:
            self.wake_ms = due_ms if self.wake_ms is None else min(self.wake_ms, due_ms)

    def started(self, lane: Lane, item: Item, monotonic: float) -> bool:
        """Remember an attempt, to park it if it turns out to be slow; True if it is the only one."""
        self._under_way[item] = lane
        if item.holds_cursor and not item.probe:
            self._quick.append((monotonic, lane, item))
        return len(self._quick) == 1

    def park_all(self, now_ms: int) -> None:
        """Somebody else goes on with this shard: whoever that is leaves what is under way its time to end."""
        for item, lane in self._under_way.items():
            if not lane.closed:
                self._park(lane, item, now_ms)

    def park_slow(self, monotonic: float, now_ms: int) -> bool:
        """Put attempts that take long among the retries; if this replica dies, they are made again from there."""
        parked = False
        while self._quick and (self._quick[0][2].finished or self._quick[0][0] <= monotonic - SLOW_S):
            _, lane, item = self._quick.popleft()
            if not (item.finished or lane.closed):
                self._park(lane, item, now_ms)
                parked = True
        return parked

    def _park(self, lane: Lane, item: Item, now_ms: int) -> None:
        item.retry = item.retry or str(item.waiting(lane.id))
        timeout_s = lane.receiver.subscriber.timeout_s
        self.wait(item.retry, now_ms + int((timeout_s + PARK_MARGIN_S) * 1000))
        self.claimed.add(item.retry)
        lane.parked(item)
        self.touched.add(lane)

    def wait(self, retry: str, due_ms: int) -> None:
        """Put a delivery among the retries."""
        self.group.due[retry] = due_ms
        self.group.done.discard(retry)  # a commit adds first and drops then
        self.wake_by(due_ms)

    def is_taken(self, retry: str) -> bool:
        """Whether a retry that the store still lists as due is queued, under way, settled or put off here."""
        groups = [self.group, self.unconfirmed] if self.unconfirmed else [self.group]
        return retry in self.claimed or any(retry in one.done or retry in one.due for one in groups)

    def has_news_of(self, lane: Lane) -> bool:
        """Whether the store is still to hear of what becomes of a lane's retries."""
        groups = [self.group, self.unconfirmed] if self.unconfirmed else [self.group]
        names = [name for one in groups for name in (*one.due, *one.done)]
        return lane in self.touched or any(name.startswith(f"{lane.id}|") for name in names)

    @property
    def next_park(self) -> float | None:
        """Monotonic time at which the oldest attempt becomes slow."""
        return self._quick[0][0] + SLOW_S if self._quick else None

    def finished(self, item: Item) -> None:
        """Forget an attempt; a retry that it was goes away with the next commit."""
        item.finished = True
        self._under_way.pop(item, None)
        if item.retry is None:
            return
        self.claimed.discard(item.retry)
        self.group.due.pop(item.retry, None)
        self.group.done.add(item.retry)

    def shelve(self, lane: Lane, retry: str) -> None:
        """Leave a due retry until its subscriber may be sent to again."""
        lane.shelf[retry] = None
        self.wait(retry, SHELVED_MS)

    def unclaim(self, lane: Lane, keep: int = 0) -> list[str]:
        """Let go of the retries that are queued in a lane; they still stand in the store. Returns their names."""
        names = lane.drop_retries(keep)
        self.claimed.difference_update(names)
        return names

    def rest(self, lane: Lane, tail: Place) -> None:
        """Let a lane stop; its retries but for a few go to the shelf, lest they crowd out those of others."""
        lane.rest(tail)
        for retry in self.unclaim(lane, 0 if lane.paused else PROBES):
            self.shelve(lane, retry)

    def release(self, lane: Lane, now_ms: int) -> None:
        """Have the retries that stand in a lane, and the first on its shelf, looked for again; the rest follows."""
        if self.unclaim(lane):
            self.wake_by(now_ms)
        if not lane.resting:
            self.unshelve(lane, now_ms)

    def unshelve(self, lane: Lane, now_ms: int, most: int | None = None) -> None:
        """Make the first retries on a lane's shelf due: as many as it has room for."""
        if not lane.paused:
            for retry in list(islice(lane.shelf, lane.room if most is None else most)):
                self.wait(retry, now_ms)
                del lane.shelf[retry]

    def close_lane(self, lane: Lane) -> None:
        """Forget a subscriber that is gone, and what still waits for it."""
        lane.closed = True
        del self.lanes[lane.id]
        self.touched.discard(lane)
        self.group.pulses.pop(lane.id, None)
        self.group.done.update(self.unclaim(lane), lane.shelf, lane.names_in_chains())
        self.claimed.difference_update(lane.names_in_chains())
        self.group.dead = [letter for letter in self.group.dead if letter[0] != lane.id]
        self.group.caught_up.add(lane.id)  # a commit under way may write its cursor once more

    def close_group(self, tail: Place, now_ms: int) -> Group:
        """Complete the group with the cursors, and begin a new one.

        The shard's cursor may go to the tail because every lane that is not idle has a cursor of its own, here or in
        the store already. It never goes back: a lane goes live only once the tail has reached the shard's cursor.
        """
        if self.unconfirmed is not None:
            return self.unconfirmed
        for lane in self.touched:
            for retry, due_ms in lane.moves().items():
                self.wait(retry, due_ms or now_ms)
                self.claimed.discard(retry)
        group, self.group = self.group, Group()
        for lane in self.touched:
            if lane.idle:
                if lane.committed is not None:
                    group.caught_up.add(lane.id)
                    lane.committed = None
            elif lane.committed != lane.progress.position:
                group.cursors[lane.id] = lane.committed = lane.progress.position
        self.touched.clear()
        if self.lags(tail):
            group.cursors[SHARD_CURSOR] = self.cursor = tail
        self.unconfirmed = group
        return group

    def lags(self, tail: Place) -> bool:
        """Whether the shard's cursor is to follow the tail."""
        return bool(self.lanes) and (self.cursor is None or self.cursor < tail)

    @property
    def next_mark(self) -> str:
        """Mark of the group that is committed next; no other shard, not even this one taken up again, has it."""
        return f"{self._name}-{self._commits + 1}"

    def confirmed(self, monotonic: float) -> None:
        """The group is in the store."""
        if self.unconfirmed:
            self.mark = self.next_mark
            self._commits += 1
            for due_ms in self.unconfirmed.due.values():
                self.wake_by(due_ms)
        self.unconfirmed = None
        self.committed_at = monotonic
