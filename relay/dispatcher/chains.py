"""Order per entity: which of an entity's events has its turn, and what waits behind it.

A chain holds the unsettled events of one entity that this lane knows of. The earliest has its turn; the turn passes on
once it is delivered or a dead letter. What waits behind an event that is quickly settled waits in memory. What would
wait longer is *parked* among the retries, due `BEHIND_MS`, so that neither the lane's position nor other entities wait
for it; whoever takes the shard up finds it there.

Invariant: a parked event of which something may be sent is made due by its lane alone: with the commit that settles the
one before it, or, if that was settled before or has left the log, once everything up to it has been read. (An erased
one is made due by whoever erases it: nothing is sent of it.) So whatever crashes, an event is not sent before the one
before it was answered with a 2xx or is on record as a dead letter.
"""

from bisect import insort
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice

from relay.core.log import BEHIND_MS, Entry, Place, Waiting
from relay.core.retry import Verdict
from relay.dispatcher.item import Item

KEPT = 16
"""So many events of an entity wait in memory for the one before them; further ones are parked."""
BEHIND, MOST_BEHIND = 2000, 50_000
"""With BEHIND events waiting for earlier ones no more is read of the log, but when the lane stands still.

Each costs a place in memory and among the retries, and as long as attempts begin, their turn comes: a million events of
a few entities are no reason to write a million retries. But if all that is known waits (an entity's first event may
wait for a day), those of other entities are found by reading on alone: PORTION more whenever nothing has begun for
STILL_S, so some hundreds of events per second, until MOST_BEHIND wait. Then the log keeps the rest.
"""
PORTION = 256
STILL_S = 0.5
RELEASED = 16
"""So many parked events are made due at a time once it is their turn; they wait for each other in memory."""

Entity = tuple[str, str]


@dataclass(slots=True)
class _Chain:
    """The unsettled events of one entity."""

    order: list[Place] = field(default_factory=list)
    states: dict[Place, Item | Waiting | None] = field(default_factory=dict)
    """An item waits in memory, a retry is parked; None: it is under way or queued, or comes when it is due."""
    items: int = 0
    """How many wait in memory."""
    under_way: bool = False
    quick: bool = True
    """Whether nothing of it has been seen to take long: what comes from the log may hold the lane's position."""

    def put(self, place: Place, state: Item | Waiting | None) -> None:
        """Take an event in, or note what has become of it."""
        if place not in self.states:
            insort(self.order, place)
        self.items += isinstance(state, Item) - isinstance(self.states.get(place), Item)
        self.states[place] = state

    def remove(self, place: Place) -> None:
        """Forget an event."""
        self.order.remove(place)
        self.items -= isinstance(self.states.pop(place), Item)

    def has_turn(self, place: Place) -> bool:
        """Whether this event goes next."""
        return not self.under_way and self.order[0] == place

    def in_memory(self) -> list[Item]:
        """What waits here for its turn, the earliest first."""
        return list(islice((one for place in self.order if isinstance(one := self.states[place], Item)), self.items))

    def parked(self) -> Iterator[Waiting]:
        """What waits in the store for its turn, the earliest first."""
        return (one for place in self.order if isinstance(one := self.states[place], Waiting))


class Chains:
    """The chains of one lane. What is to be written it leaves in `moves`.

    `settle` lets the lane's position pass an item, `queue` queues it for an attempt, `has_read` says whether whatever
    stands in the log up to a place has been admitted: before that, nobody knows what goes first.
    """

    def __init__(
        self,
        subscriber_id: str,
        settle: Callable[[Item], None],
        queue: Callable[[Item], None],
        has_read: Callable[[Place], bool],
    ) -> None:
        self._id = subscriber_id
        self._settle = settle
        self._queue = queue
        self._has_read = has_read
        self._ahead: set[Entity] = set()
        """Whose first event stands in the store, ahead of what has been read of the log."""
        self._chains: dict[Entity, _Chain] = {}
        self._size = 0
        self._most_behind = BEHIND
        self._begun_at = 0.0
        """Monotonic time at which an attempt began, or reading on was allowed."""
        self.moves: dict[str, int] = {}
        """Retries to write, with the Unix ms at which they are due: `BEHIND_MS`, or 0 for at once."""

    @property
    def behind(self) -> int:
        """How many events wait for an earlier one of their entity."""
        return self._size - len(self._chains)

    @property
    def crowded(self) -> bool:
        """Whether so many wait that what is read would most likely wait too; see `BEHIND`."""
        return self.behind >= self._most_behind

    def read_on(self, now: float) -> None:
        """There is nothing to do: if that is so for a while, let a little more be read."""
        if now - self._begun_at >= STILL_S:
            self._most_behind = max(BEHIND, min(self.behind + PORTION, MOST_BEHIND))
            self._begun_at = now

    def load(self, waiting: Waiting, due_ms: int, entity: Entity) -> None:
        """Take over a retry that the store lists: the ms at which it is due, whose event it is. They come in order.

        What has its turn is made due with `went_on`, once all are here.
        """
        chain = self._chains.setdefault(entity, _Chain(quick=False))
        if due_ms < BEHIND_MS:
            self._put(chain, waiting.place, None)
            return
        self._put(chain, waiting.place, waiting)
        if chain.order[0] == waiting.place:
            self._ahead.add(entity)

    def admit(self, item: Item) -> bool:
        """Take an event that has come from the log or the store; True: it has its turn, and may be queued."""
        place = item.entry.place
        chain = self._chains.setdefault(entity_of(item.entry), _Chain(quick=item.holds_cursor))
        if item.holds_cursor and place in chain.states:
            self._settle(item)  # it stands among the retries: a former holder has put it there
            return False
        self._put(chain, place, None)
        if chain.has_turn(place):
            return True
        self._wait(chain, item)
        return False

    def begin(self, item: Item, now: float) -> bool:
        """An attempt is to begin; False if an earlier event has come meanwhile, and this one waits again."""
        chain = self._chains.setdefault(entity_of(item.entry), _Chain(quick=False))
        if item.entry.place not in chain.states:
            self._put(chain, item.entry.place, None)  # it was queued twice, under two attempt numbers; the first ended
        if not chain.has_turn(item.entry.place):
            chain.put(item.entry.place, item)
            return False
        chain.under_way = True
        self._begun_at, self._most_behind = now, BEHIND
        return True

    def end(self, item: Item, verdict: str, *, held: bool) -> None:
        """An attempt has ended; `held`: its event will be read from the log again."""
        entity = entity_of(item.entry)
        chain = self._chains[entity]
        chain.under_way = False
        if verdict != Verdict.DELIVERED:
            self.park_behind(item)  # its end must be on record before another goes: after a crash it would go again
        again = chain.states[item.entry.place] is not None  # it was asked for once more meanwhile
        if (held or verdict in (Verdict.DELIVERED, Verdict.DEAD)) and not again:
            self._remove(chain, item.entry.place)
        self._advance(entity)

    def lose(self, place: Place) -> None:
        """An event was removed from the log while it waited; unless it is the one under way."""
        if not any(chain.under_way and chain.order[0] == place for chain in self._chains.values()):
            self.forget({place})

    def went_on(self) -> None:
        """More of the log has been read."""
        for entity in [*self._ahead]:
            if entity in self._chains:
                self._advance(entity)
            else:
                self._ahead.discard(entity)

    def park_behind(self, item: Item) -> None:
        """What waits in memory for this event is to wait in the store: it takes long."""
        chain = self._chains[entity_of(item.entry)]
        chain.quick = False
        for one in chain.in_memory():
            self._park(chain, one)

    def park(self, item: Item) -> None:
        """An event that came from the log and has not been attempted is to stand among the retries."""
        chain = self._chains[entity_of(item.entry)]
        chain.quick = False
        self._park(chain, item)
        if chain.has_turn(item.entry.place):
            self._advance(entity_of(item.entry))

    def forget(self, places: Collection[Place]) -> None:
        """These are gone, or will be read from the log again."""
        for entity, chain in list(self._chains.items()):
            for place in [one for one in chain.order if one in places]:
                self._remove(chain, place)
            self._advance(entity)

    def take_moves(self) -> dict[str, int]:
        """Hand out what is to be written."""
        moves, self.moves = self.moves, {}
        return moves

    def in_memory(self) -> list[Item]:
        """What waits here for its turn."""
        return [one for chain in self._chains.values() for one in chain.in_memory()]

    def names(self) -> list[str]:
        """The retries that are parked, or wait in memory."""
        found = [str(one) for chain in self._chains.values() for one in chain.parked()]
        return found + [one.retry for one in self.in_memory() if one.retry]

    def _put(self, chain: _Chain, place: Place, state: Item | Waiting | None) -> None:
        self._size += place not in chain.states
        chain.put(place, state)

    def _remove(self, chain: _Chain, place: Place) -> None:
        self._size -= 1
        chain.remove(place)

    def _wait(self, chain: _Chain, item: Item) -> None:
        """Let it wait for its turn: here if that is soon, else in the store."""
        here = chain.quick or not item.holds_cursor
        if here and chain.items < KEPT:
            chain.put(item.entry.place, item)
        else:
            self._park(chain, item)

    def _park(self, chain: _Chain, item: Item) -> None:
        waiting = item.waiting(self._id)
        chain.put(waiting.place, waiting)
        chain.quick = False
        self.moves[str(waiting)] = BEHIND_MS
        self._settle(item)

    def _advance(self, entity: Entity) -> None:
        """Whoever has the turn now is queued, or made due if it is in the store."""
        chain = self._chains[entity]
        if not chain.order:
            del self._chains[entity]
            return
        first = chain.states[chain.order[0]]
        if chain.under_way or first is None:
            return
        if isinstance(first, Item):
            chain.put(chain.order[0], None)
            self._queue(first)
            return
        if not self._has_read(chain.order[0]):
            self._ahead.add(entity)
            return
        self._ahead.discard(entity)
        for waiting in list(islice(chain.parked(), RELEASED)):
            chain.put(waiting.place, None)
            self.moves[str(waiting)] = 0


def entity_of(entry: Entry) -> Entity:
    """Whose event it is: what an order is kept among."""
    return entry.source, entry.entity_id
