"""Snapshots as they are stored, older rows, and the numbering of transitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.diff import changes_between, is_older, pack, transitions, unpack
from relay.core.lab import LabView
from relay.core.model import Snapshot
from tests.unit.entities import LABS, NOW, NOW_S, lab_row

MARKS = st.lists(st.integers(0, 3), min_size=2, max_size=2).map(tuple)
SCORES = st.none() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VIEWS = st.builds(
    LabView,
    st.integers(-(2**53), 2**53),
    st.none() | st.integers(0, 2**40),
    st.none() | st.text(),
    st.none() | st.text(),
    SCORES,
    st.none() | st.booleans(),
    st.none() | st.integers(0, 100),
)


@given(st.integers(0, 2**40), st.integers(0, 2**40), MARKS, VIEWS)
def test_a_snapshot_survives_the_store(sequence: int, seen_at_s: int, marks: tuple[int, ...], view: LabView) -> None:
    """What was packed is what is unpacked, and packs to the same bytes: compare-and-set depends on it."""
    snapshot = Snapshot(sequence, seen_at_s, marks, view)
    restored = unpack(pack(snapshot), LABS)
    assert restored == snapshot
    assert isinstance(restored.view, LabView)
    assert pack(restored) == pack(snapshot)


@given(MARKS, MARKS, MARKS)
def test_older_is_a_strict_order(one: tuple[int, ...], other: tuple[int, ...], third: tuple[int, ...]) -> None:
    """Nothing is older than itself, of two rows at most one is older, and older than older is older."""
    assert not is_older(one, one)
    assert not (is_older(one, other) and is_older(other, one))
    if is_older(one, other) and is_older(other, third):
        assert is_older(one, third)


@pytest.mark.parametrize(
    ("marks", "than", "expected"),
    [
        ((5, 5), (6, 5), True),
        ((5, 5), (6, 6), True),
        ((5, 7), (6, 6), False),
        ((6, 6), (5, 5), False),
        ((), (), False),
        ((), (5, 5), False),
    ],
)
def test_a_row_is_older_if_something_shrank_and_nothing_grew(
    marks: tuple[int, ...], than: tuple[int, ...], expected: object
) -> None:
    """Rows that contradict each other are not judged; rows without marks are never older."""
    assert is_older(marks, than) == expected


def test_changes_leave_out_the_status_and_what_is_equal() -> None:
    """The status is in the transition; 5 equals 5.0."""
    old, new = LabView(3, None, "a", None, 5, None, None), LabView(4, 9, "a", None, 5.0, None, None)
    assert changes_between(LABS.fields, old, new) == {"End": {"from": None, "to": 9}}


def test_numbers_go_on_from_the_snapshot() -> None:
    """After a silent baseline the first event has number 1 and names the status of the baseline."""
    old, new = (LABS.read(row, NOW) for row in (lab_row(), lab_row(CompletionStatus=50, UserId="x", ExamScore=3)))
    found = transitions(LABS, Snapshot(0, NOW_S, old.marks, old.view), new, LABS.details(new))
    assert [(one.sequence, one.status_from, one.status_to, one.first_seen) for one in found] == [
        (1, "Incomplete", "Incomplete", False),
        (2, "Incomplete", "Submitted For Grading", False),
        (3, "Submitted For Grading", "Submitted For Grading", False),
    ]


def test_a_first_sight_comes_from_nowhere() -> None:
    """Nothing is invented before the first sight: one event, from null, marked."""
    record = LABS.read(lab_row(CompletionStatus=4, ExamScore=3), NOW)
    (one,) = transitions(LABS, None, record, LABS.details(record))
    assert (one.sequence, one.status_from, one.status_to, one.first_seen) == (1, None, "Complete", True)
    assert one.changes == {}
