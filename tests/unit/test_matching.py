"""Which subscribers an event is for."""

import pytest

from relay.core.matching import TypeIndex, filter_refusal, matches, type_matches, wants_type
from relay.core.memory import Memory
from relay.core.model import Event, Family
from relay.core.ping import TEST_TYPE, ping_event
from relay.core.subscriber import Filter, Subscriber
from tests.unit.entities import LABS, NOW, SESSIONS, lab_row, seen, session_row


def event_of(family: Family, row: bytes, source: str = "lod") -> Event:
    """The event of a first sight."""
    (change,) = Memory(family, {}).digest([row], seen(source=source)).changes
    return change.events[0]


LAB_EVENT = event_of(LABS, lab_row(CompletionStatus=4, ClassId="c1"))
SESSION_EVENT = event_of(SESSIONS, session_row(), "learnosity")


def subscriber(*event_types: str, condition: Filter | None = None, name: str = "sub_1") -> Subscriber:
    """A subscriber with these interests."""
    url = "https://lms.example.org/"
    return Subscriber(id=name, url=url, event_types=event_types, filter=condition or Filter())


@pytest.mark.parametrize(
    ("pattern", "event_type", "expected"),
    [
        ("*", "lab.completed", True),
        ("*", "relay.source.degraded", True),
        ("lab.completed", "lab.completed", True),
        ("lab.completed", "lab.completed.twice", False),
        ("lab.*", "lab.completed", True),
        ("lab.*", "lab.failed.creation", True),
        ("lab.*", "lab", False),
        ("lab.*", "label.completed", False),
        ("lab.*", "session.completed", False),
        ("lab.failed.*", "lab.failed.creation", True),
        ("lab.failed.*", "lab.failed", False),
        ("lab.failed.*", "lab.completed", False),
        ("*.completed", "lab.completed", True),
        ("*.completed", "session.completed", True),
        ("*.completed", "lab.failed.completed", False),
        ("*.failed.*", "lab.failed.creation", True),
        ("relay.*", "relay.source.gap", True),
        ("lab.comp*", "lab.completed", False),
        ("", "lab.completed", False),
        ("LAB.*", "lab.completed", False),
    ],
)
def test_patterns(pattern: str, event_type: str, expected: object) -> None:
    """Exact, or `*` for one or more trailing segments, or for the family; never a part of a segment."""
    assert type_matches(pattern, event_type) == expected


def test_one_pattern_of_several_is_enough() -> None:
    """A subscriber names all its interests; without any it gets nothing."""
    assert wants_type(subscriber("session.*", "lab.completed"), "lab.completed")
    assert not wants_type(subscriber("session.*", "lab.started"), "lab.completed")
    assert not wants_type(subscriber(), "lab.completed")


@pytest.mark.parametrize(
    ("condition", "refusal"),
    [
        (Filter(), None),
        (Filter(sources=("lod", "x")), None),
        (Filter(sources=("x",)), "sources"),
        (Filter(user_ids=("555",)), None),
        (Filter(user_ids=("556",)), "user_ids"),
        (Filter(class_ids=("c1",)), None),
        (Filter(class_ids=("c2",)), "class_ids"),
        (Filter(lab_profile_ids=("5522",)), None),
        (Filter(lab_profile_ids=("55",)), "lab_profile_ids"),
        (Filter(activity_ids=("demo",)), "activity_ids"),
        (Filter(to=("Complete",)), None),
        (Filter(to=("Incomplete",)), "to"),
        (Filter(from_=("Incomplete",)), "from"),
        (Filter(sources=("lod",), user_ids=("555",), to=("Complete",)), None),
        (Filter(sources=("lod",), user_ids=("556",), to=("Incomplete",)), "user_ids"),
    ],
)
def test_every_condition_that_is_not_empty_must_hold(condition: Filter, refusal: str | None) -> None:
    """The first one that does not is named; numbers of the upstream are compared as text; null is in no list."""
    assert filter_refusal(condition, LAB_EVENT.payload) == refusal


def test_a_session_meets_the_conditions_on_sessions() -> None:
    """activity_ids speak of the record; a session has no class."""
    assert filter_refusal(Filter(activity_ids=("demo",)), SESSION_EVENT.payload) is None
    assert filter_refusal(Filter(class_ids=("c1",)), SESSION_EVENT.payload) == "class_ids"


def test_the_relays_own_events_can_be_filtered() -> None:
    """A test ping has neither user nor record, and no filter stumbles over that."""
    ping = ping_event("sub_1", 1, NOW)
    assert filter_refusal(Filter(sources=("relay",)), ping.payload) is None
    assert filter_refusal(Filter(lab_profile_ids=("1",)), ping.payload) == "lab_profile_ids"
    assert matches(subscriber("*"), TEST_TYPE, ping.payload)


def test_a_match_needs_type_and_filter() -> None:
    """Either alone is not enough."""
    assert matches(subscriber("lab.*", condition=Filter(user_ids=("555",))), LAB_EVENT.type, LAB_EVENT.payload)
    assert not matches(subscriber("session.*"), LAB_EVENT.type, LAB_EVENT.payload)
    assert not matches(subscriber("lab.*", condition=Filter(user_ids=("1",))), LAB_EVENT.type, LAB_EVENT.payload)


def test_the_index_agrees_with_the_patterns() -> None:
    """It only remembers; the second answer is the first."""
    all_of_them = [
        subscriber("lab.*", name="a"),
        subscriber("*.completed", name="b"),
        subscriber("session.*", name="c"),
    ]
    index = TypeIndex(all_of_them)
    for event_type in ("lab.completed", "session.completed", "relay.test", "lab.completed"):
        expected = tuple(one for one in all_of_them if wants_type(one, event_type))
        assert index.candidates(event_type) == expected
