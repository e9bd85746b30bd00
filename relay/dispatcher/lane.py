"""One subscriber's queue: what it was offered, what is under way, and how far everything is settled.

A lane also knows whether its subscriber may be sent to right now: a breaker that opens after failures, and a rate.
While it *rests* it is not fed, the log keeps what it misses, and of its retries it holds a few to probe with.
It is *live* while the tail of the log feeds it; one that falls behind is fed by its own place, at its own pace.
"""

from collections import deque

from relay.core.breaker import Breaker, Pace, Window
from relay.core.envelope import Receiver
from relay.core.log import Entry, Place, Waiting
from relay.core.pulse import NO_PULSE, Pulse
from relay.core.subscriber import may_be_mended
from relay.dispatcher.chains import Chains
from relay.dispatcher.item import Item
from relay.dispatcher.progress import Progress

HIGH, LOW = 1000, 200
"""A live lane with more than HIGH entries waiting falls behind; one with fewer than LOW is fed again."""
AHEAD = 16
"""So many entries for each attempt that may be under way, and for one more: who gets nothing done keeps little."""
RETRY_TURN = 4
"""At least every fourth attempt is a retry, if one is due: live traffic goes first but does not starve them."""
PROBES = 5
"""So many retries a lane that rests keeps at hand, to probe its subscriber with."""
LANE_FULL = 200
PASSED_OVER = 64
"""So many events that wait for others are passed over, at the most, in search of one to probe with."""


class Lane:
    """The queue of one subscriber."""

    def __init__(self, receiver: Receiver, cursor: Place, *, committed: Place | None, pulse: Pulse = NO_PULSE) -> None:
        self.receiver = receiver
        self.live = False
        self.closed = False
        """The subscriber is gone."""
        self.progress = Progress(cursor)
        self.committed = committed
        """The lane's own cursor as it stands in the store; None: it follows the shard's."""
        self.workers = 0
        self.in_flight = 0
        self.breaker = Breaker()
        self.window = Window()
        self.pace = Pace(receiver.subscriber.rate_per_s)
        self.gone = False
        """It answered 410: nothing more until the subscriber is changed, as it is about to be."""
        self.pulse = pulse.resting(None)
        """How it has been doing, with whoever sent to it before; a rest is not taken over."""
        self.shelf: dict[str, None] = {}
        """Retries whose time has come, and which wait until the subscriber may be sent to, in the order of coming."""
        self.trial_at: float | None = None
        """While it is in doubt: monotonic time of the attempt that it may have."""
        self.resting = False
        """Nothing may be sent, and nothing is fed, until the breaker lets a probe out."""
        self.unsorted = receiver.subscriber.ordering == "entity"
        """Which of its events wait for others is not known yet, or is to be forgotten: nothing is sent until it is."""
        self._chains: Chains | None = None
        self._passed_over = 0
        self._fresh: deque[Item] = deque()
        self._retries: deque[Item] = deque()
        self._turn = 0

    @property
    def id(self) -> str:
        """The subscriber's id."""
        return self.receiver.subscriber.id

    @property
    def paused(self) -> bool:
        """Whether nothing can be sent: its position stands still, and the log keeps what it misses."""
        subscriber = self.receiver.subscriber
        return self.closed or self.gone or self.unsorted or not (subscriber.enabled and self.receiver.keys)

    @property
    def to_be_sorted(self) -> bool:
        """Whether it stands still to learn, or to forget, what waits for what."""
        return self.unsorted and not self.in_flight

    @property
    def cap(self) -> int:
        """How many attempts may be under way."""
        return min(self.receiver.subscriber.max_in_flight, self.window.size)

    @property
    def doubtful(self) -> bool:
        """Whether its last attempt failed, and hardly one before went well."""
        return self.breaker.failures > 0 and self.window.size == 1

    @property
    def queued(self) -> int:
        """Deliveries that wait for a worker."""
        return len(self._fresh) + len(self._retries)

    @property
    def wants_retries(self) -> bool:
        """Whether due retries are to be queued; otherwise they wait on the shelf, at no cost."""
        return not self.paused and not (self.resting and len(self._retries) >= PROBES)

    @property
    def room(self) -> int:
        """How many more retries may be queued: what it can hardly begin soon would stand before everybody else's."""
        return max(min(LANE_FULL, 4 * self.cap + 32) - len(self._retries), 0)

    @property
    def high(self) -> int:
        """How many events may wait in memory."""
        return min(HIGH, AHEAD * (self.cap + 1))

    @property
    def idle(self) -> bool:
        """Whether everything up to the tail is settled."""
        return self.live and not self.progress.pending

    @property
    def crowded(self) -> bool:
        """Whether so much waits for earlier events of their entities that no more is read; see `Chains.crowded`."""
        return self._chains is not None and self._chains.crowded

    @property
    def hungry(self) -> bool:
        """Whether it is to be fed from the log."""
        low = int(self._passed_over < PASSED_OVER) if self.breaker.is_open else min(LOW, self.high // 2)
        return not (self.live or self.paused or self.resting or self.crowded) and len(self._fresh) < low

    @property
    def full(self) -> bool:
        """Whether reading from the log is to stop: one that is only probed gets one event at a time."""
        return not self.hungry and (self.breaker.is_open or self.crowded or len(self._fresh) >= self.high)

    def read_on(self, now: float) -> None:
        """Let a crowded lane be fed a little more if it has nothing to do."""
        if self._chains is not None and not self.queued:
            self._chains.read_on(now)

    def offer(self, entry: Entry, after: Place) -> None:
        """Queue an event for its first attempt; between `after` and it there is nothing for this subscriber."""
        item = Item(entry, 1)
        self.progress.offered(entry.place, after)
        has_turn = self._chains is None or self._chains.admit(item)
        if has_turn:
            self._fresh.append(item)
        else:
            self._passed_over += 1
        if len(self._fresh) > self.high or self.paused or (self.crowded and not has_turn):
            self.live = False

    def offer_retry(self, entry: Entry, waiting: Waiting) -> None:
        """Queue a delivery whose next attempt is due."""
        item = Item(entry, waiting.attempt_no, str(waiting), holds_cursor=False)
        if self._chains is None or self._chains.admit(item):
            self._retries.append(item)

    def drop_retries(self, keep: int) -> list[str]:
        """Take back the retries that are queued and that nobody attempts yet, but for the first few; their names."""
        kept, dropped = list(self._retries)[:keep], list(self._retries)[keep:]
        self._retries = deque(kept)
        return [item.retry for item in dropped if item.retry]

    def items(self) -> tuple[Item, ...]:
        """Everything in memory that nobody attempts yet."""
        return (*self._fresh, *self._retries, *(self._chains.in_memory() if self._chains else ()))

    def wait_s(self, now: float) -> float | None:
        """Seconds until an attempt may begin: 0 now, None not before something else happens."""
        if self.paused or (self.breaker.is_open and self.breaker.probing):
            return None
        return max((self.breaker.open_until or now) - now, self.pace.wait_s(now), 0.0)

    def take(self, now: float) -> Item | None:
        """The next delivery to attempt, if there is one; call it only when `wait_s` says now."""
        self._turn += 1
        while item := self._next():
            if self._chains is None or self._chains.begin(item, now):
                self._passed_over = 0
                self.pace.began()
                item.probe = self.breaker.began()
                return item
        return None

    def _next(self) -> Item | None:
        if self._retries and (not self._fresh or self.breaker.is_open or self._turn % RETRY_TURN == 0):
            return self._retries.popleft()
        return self._fresh.popleft() if self._fresh else None

    def rest(self, tail: Place) -> None:
        """Stop until the breaker lets a probe out; what nobody has attempted is read from the log again."""
        self.resting = True
        self._passed_over = 0
        self._stop(tail)

    def _stop(self, tail: Place) -> None:
        """Take what nobody has attempted out of memory.

        It is read from the log again, but for what others were taken after: that is put among the retries.
        """
        if self.live:
            self.live = False
            self.progress.read_to = max(self.progress.read_to, tail)
        waiting = [*self._fresh, *(self._chains.in_memory() if self._chains else ())]
        self._fresh.clear()
        dropped = self.progress.take_back({item.entry.place for item in waiting if item.holds_cursor})
        if self._chains:
            self._chains.forget(dropped)
            for item in waiting:
                if item.entry.place not in dropped:
                    self._chains.park(item)

    def hold(self, item: Item, tail: Place) -> bool:
        """Put a probe that failed back to where it was: it is the next event to be read.

        False if others were taken after it (the subscriber was changed meanwhile): reading would pass it.
        """
        self.rest(tail)
        if not self.progress.take_back([item.entry.place]):
            return False
        item.holds_cursor = False
        return True

    def ended(self, item: Item, verdict: str, *, held: bool) -> None:
        """Let those go on that waited for this event."""
        if self._chains:
            self._chains.end(item, verdict, held=held)

    def parked(self, item: Item) -> None:
        """An attempt takes long: the position passes it, and those that wait for it do not hold it up either."""
        self.settle(item)
        if self._chains:
            self._chains.park_behind(item)

    def lost(self, place: Place) -> None:
        """An event was removed from the log while it waited among the retries."""
        if self._chains:
            self._chains.lose(place)

    def new_chains(self) -> Chains:
        """Chains for this lane, to be filled with what the store lists."""
        return Chains(self.id, self.settle, self._queue, self._has_read)

    def sort(self, chains: Chains | None) -> None:
        """Let these say from now on who waits for whom; None: nobody does."""
        self.unsorted, self._chains = False, chains
        self.went_on()

    @property
    def ordered(self) -> bool:
        """Whether there is, or has just been, an order among its events: what waits for its turn is left alone."""
        return self.unsorted or self._chains is not None

    def _has_read(self, place: Place) -> bool:
        """Whether all events up to here have been offered, if they have not been settled before."""
        return self.live or place <= self.progress.read_to

    def went_on(self) -> None:
        """More of the log has been read: a retry may now be known to have its turn."""
        if self._chains:
            self._chains.went_on()

    def moves(self) -> dict[str, int]:
        """Retries to write, as in `Chains.moves`; they are handed out once."""
        return self._chains.take_moves() if self._chains else {}

    def names_in_chains(self) -> list[str]:
        """The retries that wait for others."""
        return self._chains.names() if self._chains else []

    def _queue(self, item: Item) -> None:
        (self._fresh if item.holds_cursor else self._retries).append(item)

    def settle(self, item: Item) -> None:
        """Let the position pass an entry: it is delivered, dead, or among the retries."""
        if item.holds_cursor:
            item.holds_cursor = False
            self.progress.settle(item.entry.place)

    def try_at_once(self) -> None:
        """Forget what was wrong with the subscriber."""
        self.breaker, self.resting, self.gone = Breaker(), False, False
        self.pulse = self.pulse.resting(None)

    def adopt(self, receiver: Receiver, tail: Place) -> bool:
        """Take over a change of the subscriber; whether anything is to be looked at again because of it.

        If what was wrong may be mended, it is tried at once. Else breaker and rest stay as they are: such a change may
        be the relay's own note that it is failing.
        """
        old, new = self.receiver.subscriber, receiver.subscriber
        self.receiver = receiver
        if mended := may_be_mended(old, new):
            self.try_at_once()
            self.pulse = self.pulse.anew() if new.enabled and not old.enabled else self.pulse
        self.gone &= new.state.status != "ok"  # it may have been disabled and enabled again before anybody looked
        if new.rate_per_s != old.rate_per_s:
            self.pace = Pace(new.rate_per_s)
        self.unsorted |= (self._chains is not None) != (new.ordering == "entity")
        if self.paused:
            self._stop(tail)
        return mended or self.paused
