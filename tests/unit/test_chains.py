"""Who of an entity's events has its turn, where the lane and the store together do not show it at once."""

from relay.core.log import BEHIND_MS, Entry, Place, Waiting
from relay.core.retry import Verdict
from relay.dispatcher.chains import KEPT, Chains
from relay.dispatcher.item import Item


def entry(number: int) -> Entry:
    """Event number `number` of the one entity there is."""
    return Entry(Place(1, number), f"evt_{number}", "lab.completed", "lod", "a", b"{}", b"")


def retry(number: int, attempt_no: int) -> Item:
    """A delivery that has come due."""
    name = str(Waiting("s", Place(1, number), attempt_no))
    return Item(entry(number), attempt_no, name, holds_cursor=False)


class Queue:
    """Chains, with what they let through."""

    def __init__(self, read_to: int = 1000) -> None:
        self.read_to = read_to
        self.queued: list[Item] = []
        self.settled: list[Item] = []
        self.chains = Chains("s", self.settled.append, self.queued.append, lambda place: place.no <= self.read_to)

    def offer(self, item: Item) -> None:
        """As a lane takes in what it is offered."""
        if self.chains.admit(item):
            self.queued.append(item)


def test_what_is_parked_waits_for_what_is_still_to_be_read() -> None:
    """After a crash the log holds events that go before the parked one: it is made due once they have been read."""
    queue = Queue(read_to=0)
    parked = Waiting("s", Place(1, 9), 1)
    queue.chains.load(parked, BEHIND_MS, ("lod", "a"))
    assert queue.chains.moves == {}
    queue.offer(Item(entry(1), 1))
    queue.read_to = 1
    queue.chains.forget({Place(1, 1)})  # it rests, and will read that one again
    queue.chains.went_on()
    assert queue.chains.moves == {}
    queue.read_to = 9
    queue.chains.went_on()
    assert queue.chains.moves == {str(parked): 0}


def test_a_delivery_that_was_asked_for_while_it_is_under_way_goes_again() -> None:
    """The same event stands in the queue and among the retries: one goes after the other, and neither is forgotten."""
    queue = Queue()
    first, again = Item(entry(1), 1), retry(1, 1)
    queue.offer(first)
    assert queue.chains.begin(first, 0)
    queue.offer(again)
    assert queue.queued == [first]
    queue.chains.end(first, Verdict.DELIVERED, held=False)
    assert queue.queued == [first, again]
    assert queue.chains.begin(again, 0)
    queue.chains.end(again, Verdict.DELIVERED, held=False)
    assert queue.chains.names() == []


def test_a_delivery_that_was_queued_twice_goes_twice() -> None:
    """Both had the turn when they came; the second finds the first settled, and its entity otherwise forgotten."""
    queue = Queue()
    first, again = Item(entry(1), 1), retry(1, 1)
    for item in (first, again):
        queue.offer(item)
    for item in (first, again):
        assert queue.chains.begin(item, 0)
        queue.chains.end(item, Verdict.DELIVERED, held=False)


def test_an_event_that_is_removed_while_it_is_under_way_keeps_its_turn() -> None:
    """Another attempt of it finds the event trimmed; the one under way ends as ever, and then the next one goes."""
    queue = Queue()
    first, second = Item(entry(1), 1), Item(entry(2), 1)
    for item in (first, second):
        queue.offer(item)
    assert queue.chains.begin(first, 0)
    queue.chains.lose(Place(1, 1))
    assert queue.queued == [first]
    queue.chains.end(first, Verdict.DELIVERED, held=False)
    assert queue.queued == [first, second]


def test_followers_are_let_go_by_what_settles_the_first() -> None:
    """Further ones than are kept in memory are parked, and made due in the step in which the one before them ends."""
    queue = Queue()
    items = [Item(entry(number), 1) for number in range(KEPT + 2)]
    for item in items:
        queue.offer(item)
    parked = str(items[-1].waiting("s"))
    assert queue.chains.moves == {parked: BEHIND_MS}
    for item in items[:-2]:
        assert queue.chains.begin(item, 0)
        queue.chains.end(item, Verdict.DELIVERED, held=False)
        assert queue.chains.moves == {parked: BEHIND_MS}
    assert queue.chains.begin(items[-2], 0)
    queue.chains.end(items[-2], Verdict.DELIVERED, held=False)
    assert queue.chains.moves == {parked: 0}
