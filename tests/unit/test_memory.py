"""What the holder of a source remembers, and what a batch of rows adds to it."""

import json
from datetime import timedelta
from typing import Any

import pytest

from relay.core.diff import pack, unpack
from relay.core.memory import DAY_S, IMPLAUSIBLE_SHARE, MANY, OPEN_KEEPS, SIGHTS_TO_OVERRULE, Digest, Memory
from relay.core.model import Event, Family, Observation, Snapshot
from tests.unit.entities import LABS, NOW, NOW_S, SESSIONS, ModelStore, data, lab_row, seen, session_row

DONE = {"CompletionStatus": 4, "End": NOW_S}


def polled(memory: Memory, *rows: bytes, at_s: float = 0, silent: bool = False) -> Digest:
    """Digest rows and adopt what they come to, as after a commit."""
    digest = memory.digest(rows, seen(at_s), silent=silent)
    memory.adopt(digest.changes, seen(at_s))
    return digest


def events(digest: Digest) -> list[Event]:
    """All events of a digest."""
    return [event for change in digest.changes for event in change.events]


def names(digest: Digest) -> list[str]:
    """Their types."""
    return [event.type for event in events(digest)]


def remembering(*rows: bytes) -> Memory:
    """A memory after a silent baseline of these rows."""
    memory = Memory(LABS, {})
    polled(memory, *rows, silent=True)
    return memory


def test_a_silent_baseline_remembers_and_says_nothing() -> None:
    """Every entity is known afterwards, with sequence 0, and not one event is made."""
    memory = Memory(LABS, {})
    digest = polled(memory, lab_row(), lab_row(LabInstanceId=2, **DONE), silent=True)
    assert (len(digest.changes), digest.events, len(memory), memory.open()) == (2, 0, 2, 1)
    assert {unpack(packed, LABS).sequence for packed in memory.stored().values()} == {0}


def test_a_change_during_the_baseline_is_told() -> None:
    """Silence is for what was not known: a lab that completes between two pages of the first poll has completed."""
    assert names(polled(remembering(lab_row()), lab_row(**DONE), at_s=1, silent=True)) == ["lab.completed"]


def test_an_unchanged_row_costs_no_change() -> None:
    """A poll that finds nothing new commits nothing."""
    assert polled(remembering(lab_row()), lab_row(), at_s=30).changes == []


def test_an_unchanged_row_is_refreshed_in_the_store_once_a_day() -> None:
    """Otherwise an entity that never changes would look forgotten after a restart."""
    memory = remembering(lab_row())
    (change,) = polled(memory, lab_row(), at_s=DAY_S).changes
    assert change.events == ()
    assert unpack(change.new, LABS).seen_at_s == NOW_S + DAY_S
    assert polled(memory, lab_row(), at_s=DAY_S + 30).changes == []


def test_nothing_is_remembered_before_it_is_committed() -> None:
    """A digest that is never adopted (a crash, a lost lease) leaves the next one to find the same events."""
    memory = remembering(lab_row())
    first = memory.digest([lab_row(**DONE)], seen(30))
    second = memory.digest([lab_row(**DONE)], seen(60))
    assert [event.id for event in events(first)] == [event.id for event in events(second)]
    assert [change.expected for change in first.changes] == [change.expected for change in second.changes]


def test_the_bracket_is_the_latest_sight_before() -> None:
    """`observed.after` moves with every unchanged sight and never lies after `observed.at`."""
    memory = remembering(lab_row())
    polled(memory, lab_row(), at_s=60)
    (event,) = events(memory.digest([lab_row(**DONE)], seen(90)))
    assert data(event)["observed"] == {"after": "2026-11-21T17:01:00.000Z", "at": "2026-11-21T17:01:30.000Z"}
    (event,) = events(memory.digest([lab_row(**DONE)], seen(30)))
    assert data(event)["observed"] == {"after": "2026-11-21T17:00:30.000Z", "at": "2026-11-21T17:00:30.000Z"}


def test_the_bracket_begins_when_the_upstream_was_asked() -> None:
    """An answer that was long on its way is as old as the request; `at` is still its arrival."""
    memory = remembering(lab_row())
    slow = Observation("lod", NOW + timedelta(seconds=60), asked_at=NOW + timedelta(seconds=10))
    memory.digest([lab_row()], slow)
    (event,) = events(memory.digest([lab_row(**DONE)], seen(90)))
    assert data(event)["observed"] == {"after": "2026-11-21T17:00:10.000Z", "at": "2026-11-21T17:01:30.000Z"}
    changes = memory.digest([lab_row(UserId="x")], slow).changes
    assert data(changes[0].events[0])["observed"]["at"] == "2026-11-21T17:01:00.000Z"
    memory.adopt(changes, slow)
    assert unpack(memory.stored()["349744"], LABS).seen_at_s == NOW_S + 10
    event, *_ = events(memory.digest([lab_row(**DONE)], seen(90)))
    assert data(event)["observed"]["after"] == "2026-11-21T17:00:10.000Z"


def test_a_restarted_memory_never_claims_to_have_seen_more() -> None:
    """After a restart the bracket is wider, not narrower."""
    memory = remembering(lab_row())
    polled(memory, lab_row(), at_s=60)
    (event,) = events(Memory(LABS, memory.stored()).digest([lab_row(**DONE)], seen(90)))
    assert data(event)["observed"]["after"] == "2026-11-21T17:00:00.000Z"


@pytest.mark.parametrize("newest_first", [True, False])
def test_of_two_rows_in_a_page_the_newest_counts(newest_first: object) -> None:
    """Whatever the order, and the older one is counted."""
    rows = [lab_row(**DONE), lab_row(LastActivity=NOW_S - 90, TotalRunTimeSeconds=1)]
    digest = polled(remembering(lab_row()), *(rows if newest_first else rows[::-1]), at_s=30)
    assert names(digest) == ["lab.completed"]
    assert digest.older == 1


def test_an_older_row_is_ignored_until_it_has_insisted() -> None:
    """A stale cache makes no event; a correction that keeps coming is taken for the truth in the end."""
    memory = remembering(lab_row(**DONE))
    stale = lab_row(LastActivity=NOW_S - 90)
    for sight in range(1, SIGHTS_TO_OVERRULE):
        digest = polled(memory, stale, at_s=30 * sight)
        assert (digest.changes, digest.older) == ([], 1)
    assert names(polled(memory, stale, at_s=300)) == ["lab.reopened"]


def test_a_fresh_row_between_makes_the_older_one_begin_again() -> None:
    """Two caches that answer in turn never overrule."""
    fresh, stale = lab_row(**DONE), lab_row(LastActivity=NOW_S - 90)
    memory = remembering(fresh)
    for turn in range(2 * SIGHTS_TO_OVERRULE):
        assert polled(memory, stale, fresh, at_s=turn).changes == []
        assert polled(memory, stale, at_s=turn).changes == []
        assert polled(memory, fresh, at_s=turn).changes == []


def test_sessions_have_no_marks_so_the_last_word_counts() -> None:
    """A session goes from A to B and back to A with three ids."""
    memory = Memory(SESSIONS, {})
    ids = []
    for turn, status in enumerate(("Incomplete", "Discarded", "Incomplete", "Discarded", "Incomplete")):
        ids += [event.id for event in events(polled(memory, session_row(status=status), at_s=turn))]
    assert len(set(ids)) == len(ids) == 5


def test_bad_rows_are_counted_and_the_rest_goes_on() -> None:
    """One bad row costs one row."""
    digest = polled(Memory(LABS, {}), b"junk", lab_row(), lab_row(LabInstanceId=2, CompletionStatus=None))
    assert digest.rows == 3
    assert digest.invalid.total() == 2
    assert names(digest) == ["lab.started"]


def test_backfill_is_marked() -> None:
    """What is seen while catching up says so."""
    digest = Memory(LABS, {}).digest([lab_row()], seen(backfill=True))
    (event,) = events(digest)
    assert (data(event)["backfill"], data(event)["first_seen"]) == (True, True)


@pytest.mark.parametrize(
    ("known", "changed", "expected"),
    [
        (MANY, int(IMPLAUSIBLE_SHARE * MANY), False),
        (MANY, int(IMPLAUSIBLE_SHARE * MANY) + 1, True),
        (MANY - 1, MANY - 1, False),
    ],
)
def test_a_storm_is_implausible(known: int, changed: int, expected: object) -> None:
    """More than 30 % of many known entities at once; a few may all change, and new ones do not count."""
    memory = remembering(*(lab_row(LabInstanceId=number) for number in range(known)))
    rows = [lab_row(LabInstanceId=number, **(DONE if number < changed else {})) for number in range(known)]
    fresh = [lab_row(LabInstanceId=10_000 + number) for number in range(known)]
    digest = memory.digest(rows + fresh, seen(30))
    assert digest.known == known
    assert digest.implausible == expected


def test_a_storm_is_measured_against_all_that_is_known() -> None:
    """A window that shows few of many entities may well show all of them changed."""
    memory = remembering(*(lab_row(LabInstanceId=number) for number in range(4 * MANY)))
    digest = memory.digest([lab_row(LabInstanceId=number, **DONE) for number in range(MANY)], seen(30))
    assert not digest.implausible


def test_claims_are_equal_where_two_polls_say_the_same() -> None:
    """Whenever it is said; entities that are new, or that change without an event, are none."""
    memory = remembering(lab_row(), lab_row(LabInstanceId=2), lab_row(LabInstanceId=3, **DONE))
    rows = [lab_row(**DONE), lab_row(LabInstanceId=2, **DONE), lab_row(LabInstanceId=4, **DONE)]
    quiet = lab_row(LabInstanceId=3, CompletionStatus=4, End=NOW_S - 5)
    first, second = (memory.claims(memory.digest([*rows, quiet], seen(at_s))) for at_s in (30, 60))
    assert first == second
    assert {entity_id for entity_id, _ in first} == {"349744", "2"}


def test_the_number_of_open_entities_follows_every_change() -> None:
    """It is counted as they come and go, and agrees with counting them all."""
    memory = Memory(LABS, {})
    polls: list[list[dict[str, Any]]] = [[{}, {"LabInstanceId": 2}], [DONE], [{}], [{"LabInstanceId": 2, **DONE}]]
    for turn, rows in enumerate(polls):
        polled(memory, *(lab_row(**fields) for fields in rows), at_s=turn)
        assert memory.open() == Memory(LABS, memory.stored()).open()
    assert memory.open() == 1


@pytest.mark.parametrize("stored", [("Completed", "2026-11-21T16:30:00Z", 3), (3, None, "u"), (3,), (), (None,) * 9])
@pytest.mark.parametrize(("family", "row"), [(LABS, lab_row), (SESSIONS, session_row)])
def test_a_snapshot_of_another_shape_is_no_crash(stored: tuple[object, ...], family: Family, row: Any) -> None:
    """Another version, or another kind of source under the same name, wrote it: the next row tells what there is."""
    name = json.loads(row()).get("LabInstanceId", "0a643076")
    memory = Memory(family, {str(name): pack(Snapshot(3, NOW_S, (1,), stored))})
    assert memory.open() in (0, 1)
    digest = polled(memory, row(), at_s=30)
    assert (digest.rows, digest.invalid.total()) == (1, 0)
    assert polled(memory, row(), at_s=60).changes == []


def test_an_upgrade_with_a_field_more_or_less_goes_on_from_what_is_known() -> None:
    """A field that is missing counts as unknown, one too many is cut; neither is news by itself."""
    memory = remembering(lab_row())
    ((name, packed),) = memory.stored().items()
    snapshot = unpack(packed, LABS)
    for view in ((*snapshot.view, "new"), snapshot.view[:-1]):
        other = Memory(LABS, {name: pack(snapshot._replace(view=view))})
        assert polled(other, lab_row(), at_s=30).changes == []
        (change,) = polled(other, lab_row(**DONE), at_s=60).changes
        assert (change.expected, [event.type for event in change.events]) == (
            pack(snapshot._replace(view=view)),
            ["lab.completed"],
        )


def test_absence_is_not_deletion() -> None:
    """A page without an entity changes nothing about it."""
    memory = remembering(lab_row(), lab_row(LabInstanceId=2))
    polled(memory, at_s=30)
    polled(memory, lab_row(), at_s=60)
    assert len(memory) == 2


def test_only_what_is_over_and_long_unseen_expires() -> None:
    """An open lab stays, and so does one that was seen again; removal is by compare-and-set."""
    keep = timedelta(seconds=100)
    memory = remembering(lab_row(), lab_row(LabInstanceId=2, **DONE), lab_row(LabInstanceId=3, **DONE))
    polled(memory, lab_row(LabInstanceId=3, **DONE), at_s=100)
    stored = memory.stored()
    changes = memory.expired(NOW + timedelta(seconds=150), keep, 10)
    assert [(change.entity_id, change.expected, change.new) for change in changes] == [("2", stored["2"], b"")]
    memory.adopt(changes, seen(200))
    assert set(memory.stored()) == {"349744", "3"}
    assert memory.expired(NOW + OPEN_KEEPS * keep, timedelta(days=1), 10) == []


def test_an_open_lab_that_nobody_shows_any_more_expires_in_the_end() -> None:
    """It may have been deleted at the upstream: four times the retention, and it goes too."""
    keep = timedelta(seconds=100)
    memory = remembering(lab_row())
    assert memory.expired(NOW + OPEN_KEEPS * keep, keep, 10) == []
    (change,) = memory.expired(NOW + OPEN_KEEPS * keep + timedelta(seconds=1), keep, 10)
    memory.adopt([change], seen())
    assert (len(memory), memory.open()) == (0, 0)


def test_expiry_takes_no_more_than_its_limit() -> None:
    """A batch fits one mint."""
    memory = remembering(*(lab_row(LabInstanceId=number, **DONE) for number in range(5)))
    assert len(memory.expired(NOW + timedelta(days=1), timedelta(0), 3)) == 3


def test_a_forgotten_lab_that_comes_back_changed_uses_no_old_id() -> None:
    """Its sequence begins again; its ids do not stand for two contents."""
    store, memory = ModelStore(), Memory(LABS, {})
    for turn, score in enumerate((None, 80)):
        digest = memory.digest([lab_row(**DONE, ExamScore=score)], seen(1000 * turn))
        store.mint(digest.changes)
        memory.adopt(digest.changes, seen(1000 * turn))
        expired = memory.expired(NOW + timedelta(days=1), timedelta(0), 10)
        assert store.mint(expired) == (1, 0, 0)
        memory.adopt(expired, seen(1000 * turn))
    assert [event.type for event in store.log] == ["lab.completed"] * 2
    assert len({event.id for event in store.log}) == 2
