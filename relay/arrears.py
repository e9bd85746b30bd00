"""What a subscriber has not acknowledged: the part of that question which reconcile and replay share.

By the relay's own invariant every matching event that the cursor has passed, and that neither waits nor is dead, was
acknowledged. Before the subscriber was last changed its filter may have been another one: of events that are older than
that, those were acknowledged that an attempt on record has delivered.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from relay.core.log import Place
from relay.core.replay import Plan
from relay.core.retry import Verdict
from relay.core.subscriber import Subscriber, moment_ms
from relay.store import Store
from relay.store.deliveries import DeliveryStore
from relay.store.keys import shard_of

GROUPS: Final = 200
"""Groups of attempts that are read at a time."""
MARGIN_MS: Final = 3_600_000
"""How far the clock that dates a change may lie behind the store's, which dates the events: doubt costs only time."""
CHUNK: Final = 250
STRETCH: Final = 10_000
"""Events of the log that are looked at together, so that the record of attempts is read once for all of them."""
COUNTED: Final = 5000
COUNTED_GROUPS: Final = 2000


@dataclass(frozen=True, slots=True)
class Certainty:
    """From when to when the invariant alone says what was acknowledged; times are Unix milliseconds."""

    created_ms: int
    changed_ms: int
    forgotten_ms: int

    @classmethod
    async def of(cls, deliveries: DeliveryStore, subscriber: Subscriber) -> "Certainty":
        """What holds for a subscriber as it is."""
        return cls(
            moment_ms(subscriber.created_at),
            moment_ms(subscriber.updated_at) + MARGIN_MS,
            await deliveries.forgotten_ms(shard_of(subscriber.id)),
        )

    def in_doubt(self, place: Place) -> bool:
        """Whether only an attempt can show that an event was acknowledged which the cursor has passed."""
        if self.created_ms <= place.ms < self.forgotten_ms:
            return False  # its attempts are on record no longer
        return place.ms <= self.changed_ms


class Doubts:
    """Events of which the record of attempts is to tell whether a subscriber has acknowledged them."""

    def __init__(self, deliveries: DeliveryStore, subscriber_id: str, places: Iterable[Place]) -> None:
        self._deliveries = deliveries
        self._subscriber_id = subscriber_id
        self.unproven = {str(place): place for place in places}
        """Those that no attempt read so far has delivered, in the order in which they were given."""
        self._start = f"{min(one.ms for one in self.unproven.values())}-0" if self.unproven else ""

    async def read(self, most: float = float("inf")) -> bool:
        """Read the record on to its end, or till nothing is in doubt; False: `most` groups were not enough."""
        shard = shard_of(self._subscriber_id)
        while self.unproven:
            if most <= 0:
                return False
            (groups,) = await self._deliveries.read_attempts([(shard, self._start)], GROUPS, newest_first=False)
            for _, group in groups:
                for one in group:
                    if one.subscriber_id == self._subscriber_id and one.verdict == Verdict.DELIVERED:
                        self.unproven.pop(one.place, None)
            most -= len(groups)
            if groups:
                self._start = f"({groups[-1][0]}"
            if len(groups) < GROUPS:
                break
            await asyncio.sleep(0)
        return True


class Stretch:
    """A piece of a replay's range: the events in it that are for the subscriber."""

    def __init__(self, places: Iterable[Place], reached: Place, doubts: Doubts | None) -> None:
        self._places = deque(places)
        self.reached = reached
        """The log has been looked at up to here."""
        self.doubts = doubts
        """None: everything is sent."""

    @property
    def done(self) -> bool:
        """Whether nothing of it is left."""
        return not self._places

    def next(self, count: int) -> tuple[list[tuple[Place, bool]], Place]:
        """Up to `count` events, each with whether it is sent if all is done; and the place that lies behind them."""
        places = list(islice(self._places, count))
        unproven = None if self.doubts is None else self.doubts.unproven
        marked = [(one, unproven is None or str(one) in unproven) for one in places]
        return marked, self.reached if len(places) == len(self._places) else places[-1]

    def pass_by(self, count: int) -> None:
        """These many are behind it."""
        for _ in range(count):
            self._places.popleft()


async def read_stretch(store: Store, plan: Plan, subscriber: Subscriber, at: Place, most: int = STRETCH) -> Stretch:
    """The next piece of the range after `at`; its doubts are still to be read."""
    found: list[Place] = []
    looked_at = 0
    while at < plan.until and looked_at < most:
        chunk = await store.log.after(at, plan.until, CHUNK)
        found += [one.place for one in chunk if plan.covers(subscriber, one)]
        looked_at += len(chunk)
        at = chunk[-1].place if len(chunk) == CHUNK else plan.until
        await asyncio.sleep(0)
    if plan.only == "all":
        return Stretch(found, at, None)
    certainty = await Certainty.of(store.deliveries, subscriber)
    doubtful = [place for place in found if certainty.in_doubt(place)]
    return Stretch(found, at, Doubts(store.deliveries, subscriber.id, doubtful))


async def count(store: Store, plan: Plan, subscriber: Subscriber, highest: int) -> tuple[int, bool]:
    """How many events a replay would send, and whether that is all: a request looks at so much and no more."""
    stretch = await read_stretch(store, plan, subscriber, plan.after, COUNTED)
    known = await stretch.doubts.read(COUNTED_GROUPS) if stretch.doubts is not None else True
    total = 0
    while not stretch.done:
        events, _ = stretch.next(CHUNK)
        total += await store.replays.count(subscriber.id, plan.only, events, highest)
        stretch.pass_by(len(events))
    return total, known and stretch.reached >= plan.until
