"""An upstream, the holder of its source, and the store, driven step by step; what must come of it is written down.

Expectations come from the states that polls have shown and the oracle, never from the code under test.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.core.diff import unpack
from relay.core.memory import Digest, Memory
from relay.core.model import Event, Family
from tests.unit.entities import NOW_S, LabState, ModelStore, SessionState, data, seen

State = LabState | SessionState
POLL_S = 30


@dataclass
class Kind:
    """A family with its oracle; `key` is the row's id field, `status` the name of a state's status."""

    family: Family
    key: str
    oracle: Callable[[Any, Any], list[str]]
    status: Callable[[Any], str]
    has_marks: bool


@dataclass
class Entity:
    """One entity at the upstream, and what polls have shown of it."""

    entity_id: int
    state: Any
    runtime_s: int = 0
    stale: bytes = b""
    """A row of an earlier moment, with smaller marks; empty if there is none."""
    shown: Any = None
    silent: bool = False
    expected: list[str] = field(default_factory=list)
    statuses: list[str | None] = field(default_factory=list)
    """Statuses in the order in which polls have shown them."""


class World:
    """The three of them; every step leaves the store as the expectations say."""

    def __init__(self, kind: Kind, states: Sequence[State], *, silent: bool) -> None:
        self.kind = kind
        self.entities = [Entity(number, state) for number, state in enumerate(states, 1)]
        self.store = ModelStore()
        self.memory = Memory(kind.family, {})
        self.now_s = 0
        self.poll([entity.entity_id for entity in self.entities], silent=silent)

    def row(self, entity: Entity) -> bytes:
        """What the upstream answers now, with noise that must not matter."""
        marks = {"TotalRunTimeSeconds": entity.runtime_s} if self.kind.has_marks else {}
        raw: bytes = entity.state.row(**{self.kind.key: entity.entity_id, "Noise": self.now_s}, **marks)
        return raw

    def move(self, number: int, state: State, lasting_s: int) -> None:
        """Something happens at the upstream; if time passed, the row of before becomes recognisably stale."""
        entity = self._entity(number)
        if self.kind.has_marks and lasting_s:
            entity.stale = self.row(entity)
        entity.runtime_s += lasting_s
        entity.state = state

    def rows(self, numbers: Sequence[int], *, stale: bool = False) -> list[bytes]:
        """A page: these entities in this order, repeated as often as named."""
        entities = [self._entity(number) for number in numbers]
        rows = [self.row(entity) for entity in entities]
        old = [entity.stale for entity in entities if stale and entity.stale]
        return [*old, *rows, *old]

    def digest(self, rows: Sequence[bytes], *, silent: bool = False) -> Digest:
        """A poll's page, seen a while later."""
        self.now_s += POLL_S
        return self.memory.digest(rows, seen(self.now_s), silent=silent)

    def poll(self, numbers: Sequence[int], *, silent: bool = False, stale: bool = False) -> None:
        """A poll that goes through."""
        digest = self.digest(self.rows(numbers, stale=stale), silent=silent)
        counts = self.store.mint(digest.changes)
        assert counts == (len(digest.changes), 0, 0)
        self.memory.adopt(digest.changes, seen(self.now_s))
        self.expect(numbers, silent=silent)

    def stale_poll(self, number: int) -> None:
        """Two polls: the truth, then a cache that answers with what was before."""
        self.poll([number])
        if stale := self._entity(number).stale:
            assert not self.digest([stale]).events

    def restart(self) -> None:
        """The holder dies; the next one knows what the store holds."""
        self.memory = Memory(self.kind.family, dict(self.store.snapshots))

    def crash_before_commit(self, numbers: Sequence[int], *, restarts: bool) -> None:
        """The same rows digested again, later and by whomever, are the same events."""
        lost = self.digest(self.rows(numbers))
        if restarts:
            self.restart()
        again = self.digest(self.rows(numbers))
        assert _ids(again) == _ids(lost)
        self.poll(numbers)

    def crash_after_commit(self, numbers: Sequence[int]) -> None:
        """The reply is lost: a repeat finds everything done, and a reloaded memory finds nothing new."""
        digest = self.digest(self.rows(numbers))
        self.store.mint(digest.changes)
        length = len(self.store.log)
        assert self.store.mint(digest.changes) == (0, len(digest.changes), 0)
        assert len(self.store.log) == length
        self.restart()
        self.expect(numbers, silent=False)
        assert not self.digest(self.rows(numbers)).changes

    def zombie(self, numbers: Sequence[int]) -> None:
        """A former holder that did not see the last polls commits nothing that the store has moved past."""
        former = Memory(self.kind.family, dict(self.store.snapshots))
        self.poll(numbers)
        length = len(self.store.log)
        late = former.digest(self.rows(numbers), seen(self.now_s + POLL_S))
        applied, _, _ = self.store.mint(late.changes)
        assert applied == 0
        assert len(self.store.log) == length

    def expect(self, numbers: Sequence[int], *, silent: bool) -> None:
        """Write down what the shown states must have given, and compare."""
        for number in dict.fromkeys(numbers):
            entity = self._entity(number)
            if entity.shown is None:
                entity.silent = silent
            if entity.shown is not None or not silent:
                entity.expected += self.kind.oracle(entity.shown, entity.state)
            status = self.kind.status(entity.state)
            if not entity.statuses or entity.statuses[-1] != status:
                entity.statuses.append(status)
            entity.shown = entity.state
            assert [event.type for event in self.events(number)] == entity.expected

    def events(self, number: int) -> list[Event]:
        """The log's events of one entity."""
        return [event for event in self.store.log if event.entity_id == str(number)]

    def check(self) -> None:
        """After the dust has settled."""
        self.poll([entity.entity_id for entity in self.entities])
        contents = {event.id: event.payload for event in self.store.log}
        assert len(contents) == len(self.store.log), "an id stands for two events"
        for entity in self.entities:
            self._check_chain(entity)
            snapshot = unpack(self.store.snapshots[str(entity.entity_id)], self.kind.family)
            raw = entity.state.row(**{self.kind.key: entity.entity_id})
            assert snapshot.view == self.kind.family.read(raw, seen(self.now_s).at).view
            assert snapshot.sequence == len(entity.expected)

    def _check_chain(self, entity: Entity) -> None:
        """Sequences have no holes, each `from` is the previous `to`, and the statuses are those that were shown."""
        found = [data(event) for event in self.events(entity.entity_id)]
        assert [one["sequence"] for one in found] == list(range(1, len(found) + 1))
        assert [one["event_id"] for one in found] == [event.id for event in self.events(entity.entity_id)]
        before = entity.statuses[0] if entity.silent else None
        told = [before] if entity.silent else []
        for one in found:
            assert one["transition"]["from"] == before
            before = one["transition"]["to"]
            if not told or told[-1] != before:
                told.append(before)
            assert one["first_seen"] == (one["sequence"] == 1 and not entity.silent)
            assert (one["observed"]["after"] is None) == one["first_seen"]
            assert one["first_seen"] or one["observed"]["after"] < one["observed"]["at"]
        assert told == entity.statuses

    def _entity(self, number: int) -> Entity:
        return self.entities[number - 1]


def _ids(digest: Digest) -> dict[str, list[str]]:
    return {change.entity_id: [event.id for event in change.events] for change in digest.changes}


def without_times(event: Event) -> dict[str, Any]:
    """What an event says, but for when it was seen."""
    payload: dict[str, Any] = json.loads(event.payload)
    del payload["timestamp"], payload["data"]["observed"], payload["data"]["record"]["Noise"]
    return payload


ENDS = (None, NOW_S - 200, NOW_S - 100)
