"""The latest confirmed changes: a suffix of each entity's chain, within bounds."""

from datetime import timedelta

from relay.core.memory import Memory
from relay.core.model import Change
from relay.core.tail import OVERHEAD_BYTES, Tail, outside
from tests.unit.entities import LABS, NOW, lab_row, seen

ANY = NOW - timedelta(days=1)


def change(entity_id: str, old: bytes, new: bytes) -> Change:
    """A link of an entity's chain."""
    return Change(entity_id, old, new, ())


def test_changes_without_events_are_kept_too() -> None:
    """They are links of the chain that the others hang on."""
    tail, links = Tail(), [change("1", b"a", b"b"), change("1", b"b", b"c"), change("2", b"", b"a")]
    tail.extend(links[:1], NOW)
    tail.extend(links[1:], NOW)
    assert tail.since(ANY) == links


def test_the_oldest_changes_go_first() -> None:
    """Whether there are too many or they are too large."""
    links = [change("1", bytes([number]), bytes([number + 1])) for number in range(10)]
    for tail in (Tail(max_changes=3), Tail(max_bytes=3 * (OVERHEAD_BYTES + 2))):
        tail.extend(links, NOW)
        assert tail.since(ANY) == links[-3:]


def test_payloads_count_towards_the_size() -> None:
    """An event weighs what its payload weighs."""
    (one,) = Memory(LABS, {}).digest([lab_row(Novel="x" * 10_000)], seen()).changes
    tail = Tail(max_bytes=25_000)
    tail.extend([one] * 5, NOW)
    assert len(tail.since(ANY)) == 2


def test_what_was_removed_is_not_brought_back() -> None:
    """Minted again, the first sight of a forgotten entity would be told a second time."""
    tail = Tail()
    tail.extend([change("1", b"", b"a"), change("2", b"", b"a")], NOW)
    tail.extend([change("1", b"a", b"")], NOW)
    assert [one.entity_id for one in tail.since(ANY)] == ["2"]


def test_only_what_is_young_enough_is_given_back() -> None:
    """Other holders may have let older entities expire."""
    tail = Tail()
    for day in range(4):
        tail.extend([change(str(day), b"", b"a")], NOW + timedelta(days=day))
    assert [one.entity_id for one in tail.since(NOW + timedelta(days=2))] == ["2", "3"]


def test_an_entity_is_outside_only_if_none_of_its_links_fits() -> None:
    """Where the store stands in the middle of a chain the earlier links are in conflict, and nothing is amiss."""
    links = [change("1", b"a", b"b"), change("1", b"b", b"c"), change("2", b"a", b"b"), change("2", b"b", b"c")]
    assert outside(links, ["1", "2", "2"]) == {"2"}
    assert outside(links, []) == set()
