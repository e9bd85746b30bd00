"""Erasing a learner from what is remembered: nothing is told of it, and what comes later is told rightly."""

import json
from datetime import UTC, datetime

import pytest

from relay.core.diff import unpack
from relay.core.erasure import ERASED, Pseudonyms, Search, forgotten, learner_in, learners_of, shown
from relay.core.log import Entry, Place
from relay.core.memory import DAY_S, Digest, Memory
from relay.core.model import Change
from relay.core.tail import Tail
from tests.unit.entities import LABS, NOW_S, SESSIONS, data, lab_row, seen, session_row

NAMES = Pseudonyms([b"k" * 32])
DONE = {"CompletionStatus": 4, "End": NOW_S}


def polled(memory: Memory, *rows: bytes, at_s: float = 0, silent: bool = False) -> Digest:
    """Digest rows and adopt what they come to, as after a commit."""
    digest = memory.digest(rows, seen(at_s), silent=silent)
    memory.adopt(digest.changes, seen(at_s))
    return digest


def erased_from(*rows: bytes, user_id: str = "555") -> Memory:
    """A memory of these rows from which a learner was erased."""
    memory = Memory(LABS, {}, NAMES)
    polled(memory, *rows, silent=True)
    memory.forget(NAMES.of(user_id))
    return memory


def learner(change: Change) -> str | None:
    """Whom the new snapshot of a change names."""
    return learner_in(change.new)


def test_a_pseudonym_is_stable_and_tells_nothing() -> None:
    """The same learner has the same one under the same key, another key or learner another, and none holds the id."""
    assert NAMES.of("learner-1") == NAMES.of("learner-1")
    assert len({NAMES.of("learner-1"), NAMES.of("learner-2"), Pseudonyms([b"j" * 32]).of("learner-1")}) == 3
    assert "learner-1" not in NAMES.of("learner-1")


def test_every_key_of_the_ring_recognises_its_own_pseudonyms() -> None:
    """After a rotation what the former key made is recognised; once that key is gone, nobody can say."""
    rotated = Pseudonyms([b"j" * 32, b"k" * 32])
    is_learner = rotated.test(NAMES.of("555"))
    assert is_learner is not None
    assert [is_learner(one) for one in ("555", "556", "")] == [True, False, False]
    assert Pseudonyms([b"j" * 32]).test(NAMES.of("555")) is None


def test_the_same_row_again_says_nothing_and_brings_nothing_back() -> None:
    """The upstream still shows the learner: no change, thus no event, and no id in what is stored."""
    memory = erased_from(lab_row())
    assert polled(memory, lab_row(), at_s=30).changes == []
    (packed,) = memory.stored().values()
    assert learner_in(packed) == NAMES.of("555")


def test_what_the_daily_refresh_stores_keeps_the_pseudonym() -> None:
    """An unchanged row refreshes the snapshot's time only."""
    memory = erased_from(lab_row())
    (change,) = polled(memory, lab_row(), at_s=DAY_S + 60).changes
    assert (learner(change), change.events) == (NAMES.of("555"), ())


def test_a_new_transition_is_told_whole_and_leaves_no_id_in_the_snapshot() -> None:
    """It is new data: numbered on, with the learner in the event, without a change of learner, and stored without."""
    memory = erased_from(lab_row())
    (change,) = polled(memory, lab_row(**DONE), at_s=30).changes
    (event,) = change.events
    assert event.type == "lab.completed"
    assert (data(event)["sequence"], data(event)["user_id"]) == (1, "555")
    assert data(event)["changes"].keys() == {"End"}
    assert learner(change) == NAMES.of("555")
    assert polled(memory, lab_row(**DONE), at_s=60).changes == []


def test_an_event_has_the_id_that_it_would_have_had() -> None:
    """Erasing a learner changes no id of what comes later: a replica that has not heard yet mints the same."""
    plain = Memory(LABS, {}, NAMES)
    polled(plain, lab_row(), silent=True)
    (before,) = polled(plain, lab_row(**DONE), at_s=30).changes
    (after,) = polled(erased_from(lab_row()), lab_row(**DONE), at_s=30).changes
    assert [one.id for one in after.events] == [one.id for one in before.events]


@pytest.mark.parametrize("successor", ["556", None])
def test_a_lab_that_goes_to_somebody_else_is_told_without_the_former_learner(successor: str | None) -> None:
    """A transfer, or a closed account, is seen as such; who it was before is not said."""
    (change,) = polled(erased_from(lab_row()), lab_row(UserId=successor), at_s=30).changes
    (event,) = change.events
    assert event.type == "lab.reassigned"
    assert data(event)["changes"] == {"UserId": {"from": ERASED, "to": successor}}
    assert learner(change) == successor


def test_without_the_key_of_a_pseudonym_nothing_is_told() -> None:
    """Once an encryption key is taken away, whoever is seen passes for the learner: no storm of transfers."""
    memory = erased_from(lab_row())
    later = Memory(LABS, memory.stored(), Pseudonyms([b"j" * 32]))
    assert polled(later, lab_row(), at_s=30).changes == []


def test_others_are_left_alone() -> None:
    """Only snapshots of this learner change, byte for byte as the store's do."""
    memory = Memory(LABS, {}, NAMES)
    polled(
        memory, lab_row(), lab_row(LabInstanceId=2, UserId="5555"), lab_row(LabInstanceId=3, UserId=None), silent=True
    )
    before = memory.stored()
    memory.forget(NAMES.of("555"))
    after = memory.stored()
    assert after == before | {"349744": forgotten(before["349744"], NAMES.of("555"))}
    assert unpack(after["349744"], LABS).view[3:] == unpack(before["349744"], LABS).view[3:]


def test_a_session_s_snapshot_names_nobody() -> None:
    """There is nothing to erase, whatever the learner is called."""
    memory = Memory(SESSIONS, {}, NAMES)
    polled(memory, session_row(user_id="Incomplete"), silent=True)
    (packed,) = memory.stored().values()
    assert learner_in(packed) is None
    assert not Search("Incomplete").in_snapshot(packed)


def test_a_payload_speaks_of_the_learner_and_of_who_had_the_lab_before() -> None:
    """Both ends of a transfer are found, nobody else, and no part of an id."""
    memory = Memory(LABS, {}, NAMES)
    polled(memory, lab_row(), silent=True)
    (change,) = polled(memory, lab_row(UserId='5"6'), at_s=30).changes
    payload = change.events[0].payload
    assert learners_of(payload) == {"555", '5"6'}
    assert [Search(one).in_payload(payload) for one in ("555", '5"6', "55", "349744", "")] == [True, True, *[False] * 3]


def test_what_may_be_minted_again_does_not_speak_of_the_learner() -> None:
    """The latest changes of an entity go as a whole, those of others stay."""
    memory, tail, now = Memory(LABS, {}, NAMES), Tail(), datetime.now(UTC)
    for row in (lab_row(), lab_row(**DONE), lab_row(LabInstanceId=2, UserId="7")):
        tail.extend(polled(memory, row).changes, now)
    tail.forget(lambda change: learner(change) == "555")
    assert {change.entity_id for change in tail.since(now)} == {"2"}


def test_a_feed_shows_that_there_was_an_event() -> None:
    """The place of what was erased is kept, and says so."""
    entry = Entry(Place(1_795_280_400_123, 0), "evt_x", "lab.completed", "lod", "349744", b"", b"")
    assert json.loads(shown(entry)) == {
        "type": "lab.completed",
        "timestamp": "2026-11-21T17:00:00.123Z",
        "data": {"event_id": "evt_x", "source": "lod", "entity": {"id": "349744"}, "erased": True},
    }
