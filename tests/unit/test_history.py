"""Any history, cut into polls in any way: every observable change is one event, and nothing else is.

Random walks over all states, gaps, repeats, shuffles, duplicates, stale rows, restarts and crashes, against an
oracle that was written from the public contract alone.
"""

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.lab import STATUS_NAMES, LabFamily
from relay.core.memory import Memory
from relay.core.session import SessionFamily
from tests.unit.entities import LabState, ModelStore, SessionState, seen
from tests.unit.oracle import lab_types, session_types
from tests.unit.world import ENDS, Kind, World, without_times

MANY = settings(max_examples=300)

LABS = Kind(
    LabFamily(progress=True),
    "LabInstanceId",
    partial(lab_types, progress=True),
    lambda state: STATUS_NAMES.get(state.status, f"Status {state.status}"),
    has_marks=True,
)
SESSIONS = Kind(
    SessionFamily(progress=True),
    "session_id",
    partial(session_types, progress=True),
    lambda state: str(state.status),
    has_marks=False,
)

LAB_STATES = st.builds(
    LabState,
    st.sampled_from((2, 3, *STATUS_NAMES, 0, 99)),
    st.sampled_from(ENDS),
    st.sampled_from(("555", "556", None)),
    st.sampled_from((None, "c1")),
    st.sampled_from((None, 0, 80, 80.5)),
    st.sampled_from((None, True, False)),
    st.sampled_from((None, 0, 50, 100)),
)
SESSION_STATES = st.builds(
    SessionState,
    st.sampled_from(("Incomplete", "Completed", "Discarded", "Pending Scoring", "Archived")),
    st.sampled_from((None, "2026-11-21T16:30:00Z", "2026-11-21T16:45:00Z")),
    st.sampled_from((None, 1, 2)),
)
ENTITIES = 3
NUMBERS = st.integers(1, ENTITIES)
PAGE = st.lists(NUMBERS, min_size=1, max_size=5)
"""Which entities a page shows: some not at all, some twice, in any order."""
STEPS = st.one_of(
    st.tuples(st.just("move"), NUMBERS, st.integers(0, 3), st.sampled_from((0, 60))),
    st.tuples(st.just("move"), NUMBERS, st.integers(0, 3), st.sampled_from((0, 60))),
    st.tuples(st.just("poll"), PAGE, st.booleans()),
    st.tuples(st.just("stale"), NUMBERS),
    st.tuples(st.just("restart")),
    st.tuples(st.just("crash before"), PAGE, st.booleans()),
    st.tuples(st.just("crash after"), PAGE),
    st.tuples(st.just("zombie"), PAGE),
)


def take(world: World, pool: list[Any], step: tuple[Any, ...]) -> None:
    """One step of a story."""
    match step:
        case "move", number, place, lasting_s:
            world.move(number, pool[place % len(pool)], lasting_s)
        case "poll", page, stale:
            world.poll(page, stale=stale)
        case "stale", number:
            world.stale_poll(number)
        case "restart", *_:
            world.restart()
        case "crash before", page, restarts:
            world.crash_before_commit(page, restarts=restarts)
        case "crash after", page:
            world.crash_after_commit(page)
        case "zombie", page:
            world.zombie(page)


@st.composite
def stories(draw: st.DrawFn, kind: Kind) -> tuple[list[Any], list[Any]]:
    """A small pool of states, so that walks come back to where they were (A→B→A), and what happens."""
    states: st.SearchStrategy[Any] = LAB_STATES if kind is LABS else SESSION_STATES
    return draw(st.lists(states, min_size=2, max_size=4)), draw(st.lists(STEPS, min_size=5, max_size=30))


def run(kind: Kind, story: tuple[list[Any], list[Any]], *, silent: bool) -> World:
    """Live through a story; each step compares the log with the oracle."""
    pool, steps = story
    world = World(kind, [pool[number % len(pool)] for number in range(ENTITIES)], silent=silent)
    assert not silent or not world.store.log
    for step in steps:
        take(world, pool, step)
    world.check()
    return world


@MANY
@given(stories(LABS), st.booleans())
def test_any_history_of_labs_is_told_once_and_as_the_contract_says(story: Any, silent: bool) -> None:  # noqa: FBT001  # drawn
    """Types, order, ids, sequences, chain and final snapshot, whatever happens between and during polls."""
    run(LABS, story, silent=silent)


@MANY
@given(stories(SESSIONS), st.booleans())
def test_any_history_of_sessions_is_told_once_and_as_the_contract_says(story: Any, silent: bool) -> None:  # noqa: FBT001  # drawn
    """The same for rows that have nothing that only grows."""
    run(SESSIONS, story, silent=silent)


@MANY
@given(st.lists(LAB_STATES, min_size=2, max_size=2, unique=True), LAB_STATES)
def test_any_two_labs_that_were_seen_in_turn(pair: list[LabState], third: LabState) -> None:
    """Every pair of states with all their fields, there and back again, and on."""
    world = World(LABS, [pair[0]], silent=True)
    for state in (pair[1], pair[0], pair[1], third):
        world.move(1, state, 0)
        world.poll([1, 1])
    world.check()


@MANY
@given(st.lists(LAB_STATES | st.none(), min_size=2, max_size=12))
def test_no_id_ever_stands_for_two_contents(states: list[LabState | None]) -> None:
    """Not even when the store loses its tail or forgets an entity (None) and the upstream goes on differently."""
    store, said = ModelStore(), dict[str, Any]()
    for turn, state in enumerate(states):
        if state is None:
            store.snapshots.clear()
            continue
        digest = Memory(LABS.family, store.snapshots).digest([state.row(Noise=turn)], seen(30 * turn))
        store.mint(digest.changes)
        for change in digest.changes:
            for event in change.events:
                assert said.setdefault(event.id, without_times(event)) == without_times(event)


@pytest.mark.parametrize("split", range(1, 7))
def test_however_a_window_is_cut_into_pages_the_events_are_the_same(split: int) -> None:
    """Pages of any size, overlapping by one row: the same ids in the same order."""
    before = [LabState(3)] * 6
    after = [LabState(status, score=5) for status in (4, 1, 50, 60, 10, 3)]
    worlds = [World(LABS, before, silent=True) for _ in range(2)]
    for world in worlds:
        for number, state in enumerate(after, 1):
            world.move(number, state, 60)
    worlds[0].poll(range(1, 7))
    for first in range(1, 7, split):
        worlds[1].poll(range(max(first - 1, 1), min(first + split, 7)))
    assert [event.id for event in worlds[1].store.log] == [event.id for event in worlds[0].store.log]
