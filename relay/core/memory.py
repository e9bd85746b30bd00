"""What the holder of a source knows about its entities, and what fresh rows add to that.

The memory mirrors the store: a row that changes nothing costs no command. What it plans is adopted only once the
store has committed it. It does no I/O.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from relay.core.diff import is_older, pack, transitions, unpack
from relay.core.erasure import Pseudonyms, forgotten, unveil, veil
from relay.core.errors import InvalidRecordError
from relay.core.events import build
from relay.core.model import Change, Family, Observation, Record, Snapshot, View
from relay.core.quarantine import Samples, sample_of

DAY_S = 86_400
SIGHTS_TO_OVERRULE = 3
"""How often a row that looks older than what is stored must come unchanged to be taken for the truth."""
MANY = 100
IMPLAUSIBLE_SHARE = 0.3
OPEN_KEEPS = 4
"""How many times longer an entity is kept that never came to an end."""

Claims = frozenset[tuple[str, View]]
"""What known entities are said to have become."""


@dataclass(slots=True)
class Known:
    """One entity in memory."""

    stored: bytes
    """Its snapshot, packed, exactly as it stands in the store."""
    snapshot: Snapshot
    seen_at: datetime
    """Latest time at which the upstream is sure to have been in this state: when it was asked."""
    marks: tuple[int, ...]
    """Freshest marks seen; the stored ones may lag behind."""
    doubtful: tuple[View, int] | None = None
    """A view that came with older marks, and how often."""


@dataclass(slots=True)
class Digest:
    """What a batch of rows came to."""

    changes: list[Change] = field(default_factory=list)
    rows: int = 0
    known: int = 0
    """Entities of the source that were known before."""
    older: int = 0
    invalid: Counter[str] = field(default_factory=Counter)
    """Rows kept out, by reason."""
    samples: Samples = field(default_factory=Samples)
    """Some of them."""

    @property
    def events(self) -> int:
        """Events that the changes carry."""
        return sum(len(change.events) for change in self.changes)

    @property
    def implausible(self) -> bool:
        """Whether so many of the known entities changed at once that the upstream is rather to be doubted."""
        return self.known >= MANY and len(self.doubtful()) > IMPLAUSIBLE_SHARE * self.known

    def doubtful(self) -> list[Change]:
        """The changes that tell something about a known entity."""
        return [change for change in self.changes if change.expected and change.events]

    def keep_out(self, raw: bytes, error: InvalidRecordError, id_field: str, at: datetime) -> None:
        """Count a row that cannot be read."""
        reason = str(error)
        self.invalid[reason] += 1
        if self.samples.wants(reason):
            self.samples.kept.append(sample_of(raw, error, id_field, at))

    def add(self, other: "Digest") -> None:
        """Count the rows of another page too."""
        self.rows += other.rows
        self.older += other.older
        self.invalid += other.invalid
        self.samples.add(other.samples)
        self.changes += other.changes


class Memory:
    """The entities of one source."""

    def __init__(self, family: Family, stored: Mapping[str, bytes], names: Pseudonyms | None = None) -> None:
        self._family = family
        self._names = names or Pseudonyms()
        self._known: dict[str, Known] = {}
        self._open = 0
        for entity_id, packed in stored.items():
            snapshot = unpack(packed, family)
            seen_at = datetime.fromtimestamp(snapshot.seen_at_s, UTC)
            self._put(entity_id, Known(packed, snapshot, seen_at, snapshot.marks))

    def __len__(self) -> int:
        """Entities known."""
        return len(self._known)

    def open(self) -> int:
        """Entities whose life goes on; counted as they come and go, because every poll asks."""
        return self._open

    def stored(self) -> dict[str, bytes]:
        """Every snapshot as the store should have it."""
        return {entity_id: known.stored for entity_id, known in self._known.items()}

    def digest(self, rows: Sequence[bytes], seen: Observation, *, silent: bool = False) -> Digest:
        """Compare rows with what is known. `silent`: an entity that was not known makes no event."""
        digest = Digest(rows=len(rows), known=len(self._known))
        for record in self._newest(rows, seen, digest):
            known = self._known.get(record.entity_id)
            if known is not None and self._refuses(known, record):
                digest.older += 1
                continue
            try:
                change = self._change(known, record, seen, silent=silent)
            except InvalidRecordError as error:
                digest.keep_out(record.raw, error, self._family.id_field, seen.at)
                continue
            if change is not None:
                digest.changes.append(change)
            elif known is not None:
                known.seen_at, known.marks, known.doubtful = seen.true_at, record.marks, None
        return digest

    def adopt(self, changes: Iterable[Change], seen: Observation) -> None:
        """Remember changes that the store has committed."""
        for change in changes:
            known = None
            if change.new:
                snapshot = unpack(change.new, self._family)
                known = Known(change.new, snapshot, seen.true_at, snapshot.marks)
            self._put(change.entity_id, known)

    def claims(self, digest: Digest) -> Claims:
        """What the rows say that known entities have become, in a form that two polls can be compared by."""
        return frozenset((one.entity_id, unpack(one.new, self._family).view) for one in digest.doubtful())

    def expired(self, now: datetime, keep: timedelta, limit: int) -> list[Change]:
        """Removal of up to `limit` entities that the upstream has not shown for `keep`.

        One that is open may still come to its end, so it stays longer; not for ever, because it may have been deleted.
        """
        ended, open_ = now - keep, now - OPEN_KEEPS * keep
        old = (
            Change(entity_id, known.stored, b"", ())
            for entity_id, known in self._known.items()
            if known.seen_at < ended and (known.seen_at < open_ or not self._family.is_open(known.snapshot.view))
        )
        return [change for change, _ in zip(old, range(limit), strict=False)]

    def forget(self, pseudonym: str) -> None:
        """Put the pseudonym in the place of its learner, exactly as it was done in the store."""
        at, is_learner = self._family.learner_at, self._names.test(pseudonym)
        if at is None or is_learner is None:
            return
        for known in self._known.values():
            user_id = known.snapshot.view[at]
            if user_id is not None and is_learner(user_id):
                known.stored = forgotten(known.stored, pseudonym)
                known.snapshot = unpack(known.stored, self._family)
                known.doubtful = None

    def _put(self, entity_id: str, known: Known | None) -> None:
        """Remember one entity, or forget it."""
        former = self._known.pop(entity_id, None)
        for one, count in ((former, -1), (known, 1)):
            if one is not None and self._family.is_open(one.snapshot.view):
                self._open += count
        if known is not None:
            self._known[entity_id] = known

    def _newest(self, rows: Sequence[bytes], seen: Observation, digest: Digest) -> Iterable[Record]:
        """Read the rows; of several about one entity the newest counts."""
        newest: dict[str, Record] = {}
        for raw in rows:
            try:
                record = self._family.read(raw, seen.at)
            except InvalidRecordError as error:
                digest.keep_out(raw, error, self._family.id_field, seen.at)
                continue
            other = newest.get(record.entity_id)
            if other is None or not is_older(record.marks, other.marks):
                newest[record.entity_id] = record
            digest.older += other is not None and other.view != record.view
        return newest.values()

    def _refuses(self, known: Known, record: Record) -> bool:
        """Whether a row is an earlier sight of its entity (a stale cache answered).

        One that keeps coming is taken for the truth, so that a correction at the upstream is not lost.
        """
        if not is_older(record.marks, known.marks):
            return False
        view, sights = known.doubtful or (record.view, 0)
        known.doubtful = (record.view, sights + 1 if view == record.view else 1)
        return known.doubtful[1] < SIGHTS_TO_OVERRULE

    def _change(self, known: Known | None, record: Record, seen: Observation, *, silent: bool) -> Change | None:
        seen_at_s = int(seen.true_at.timestamp())
        snapshot, stored_view = self._compared(known, record.view)
        if known is not None and snapshot is not None and record.view == snapshot.view:
            if seen_at_s - known.snapshot.seen_at_s < DAY_S:
                return None
            fresh = known.snapshot._replace(seen_at_s=seen_at_s, marks=record.marks)
            return Change(record.entity_id, known.stored, pack(fresh), ())
        if known is None and silent:
            return Change(record.entity_id, b"", pack(Snapshot(0, seen_at_s, record.marks, record.view)), ())
        details = self._family.details(record)
        told = transitions(self._family, snapshot, record, details)
        after = min(known.seen_at, seen.at) if known else None  # a clock may have been set back
        events = tuple(build(transition, seen, details, after=after) for transition in told)
        sequence = (snapshot.sequence if snapshot else 0) + len(told)
        new = pack(Snapshot(sequence, seen_at_s, record.marks, stored_view))
        return Change(record.entity_id, known.stored if known else b"", new, events)

    def _compared(self, known: Known | None, view: View) -> tuple[Snapshot | None, View]:
        """The snapshot that a view is compared with, and the view as it is to be stored."""
        at = self._family.learner_at
        if known is None or at is None or known.snapshot.view == view:
            return known.snapshot if known else None, view
        former = unveil(known.snapshot.view, view, at, self._names)
        return known.snapshot._replace(view=former), veil(view, known.snapshot.view, former, at)
