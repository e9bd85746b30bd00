"""A replay as a value: its range, its types, how far it has come."""

import pytest

from relay.core.log import LAST_NO, START, Entry, Place, just_before
from relay.core.replay import Ending, Plan, Replay
from relay.core.subscriber import Filter, Subscriber

PAYLOAD = b'{"data": {"source": "lod", "transition": {"from": null, "to": "Complete"}, "user_id": "u1"}}'
SUBSCRIBER = Subscriber(id="sub_a", url="https://lms.example.org/", event_types=("lab.*", "relay.*"))


def plan(*event_types: str, begins_ms: int | None = 1000) -> Plan:
    """A replay of the second from 1,000 to 2,000 ms."""
    return Plan(
        "rpl_a", "sub_a", just_before(1000), Place(2000, 0), event_types, "all", 1000, 3000, begins_ms, False, 0, True
    )


def entry(event_type: str, payload: bytes = PAYLOAD) -> Entry:
    """One event."""
    return Entry(Place(1500, 0), "evt_a", event_type, "lod", "1", payload, b"")


def test_the_place_before_a_millisecond_excludes_nothing_of_it() -> None:
    """Its first event stands after that place, the last one of the millisecond before does not."""
    assert Place(999, LAST_NO) == just_before(1000) < Place(1000, 0)
    assert just_before(0) == START


@pytest.mark.parametrize(
    ("event_types", "event_type", "expected"),
    [
        ((), "lab.completed", True),
        ((), "session.completed", False),
        (("*.completed",), "lab.completed", True),
        (("*.completed",), "lab.started", False),
        (("session.*",), "session.completed", False),
        ((), "relay.source.gap", True),
    ],
)
def test_an_event_must_be_wanted_by_the_subscriber_and_the_replay(
    event_types: tuple[str, ...], event_type: str, *, expected: bool
) -> None:
    """A replay narrows a subscription and never widens it; the relay's own events are no exception."""
    assert plan(*event_types).covers(SUBSCRIBER, entry(event_type)) is expected


def test_what_was_erased_or_is_filtered_out_is_not_covered() -> None:
    """The filter counts as it is now."""
    assert not plan().covers(SUBSCRIBER, entry("lab.completed", b""))
    filtered = Subscriber(id="sub_a", url="https://lms.example.org/", filter=Filter(user_ids=("u2",)))
    assert not plan().covers(filtered, entry("lab.completed"))


@pytest.mark.parametrize(
    ("at", "expected"), [(just_before(1000), 0.0), (Place(1250, 3), 0.25), (Place(2000, 0), 1.0), (Place(9000, 0), 1.0)]
)
def test_progress_goes_from_nothing_to_all(at: Place, expected: float) -> None:
    """By time between the first event of the range and its end."""
    assert Replay(plan(), at, 0, 0, None).progress == expected


def test_an_empty_range_is_done_at_once_and_an_ending_tells_the_status() -> None:
    """Nothing is divided by nothing."""
    empty = Plan("rpl_a", "sub_a", Place(5, 0), Place(5, 0), (), "all", 5, 9, None, False, 0, True)
    assert Replay(empty, empty.after, 0, 0, None).progress == 1.0
    assert Replay(empty, empty.after, 0, 0, None).status == "running"
    assert Replay(empty, empty.after, 0, 0, Ending("cancelled", 7)).status == "cancelled"
