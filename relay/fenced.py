"""What the holder of a source writes, under its token; and what it knows of a store that may forget.

Invariant: every write carries the number of the write before, so a store that has fallen back behind what it
confirmed is noticed at the next write or at the next beginning, and the tail is there to be minted again.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from relay.core.erasure import Pseudonyms, learner_in, learners_of
from relay.core.model import Change
from relay.core.tail import Tail, outside
from relay.store.snapshots import MAX_CHANGES, FencedError, Minted, SnapshotStore


class ConflictError(Exception):
    """The store holds other snapshots than this replica remembers."""


class FencedWriter:
    """The writes of one source's holder; `keep_entities` is how long an entity is remembered that has ended."""

    def __init__(
        self, store: SnapshotStore, source: str, keep_entities: timedelta, names: Pseudonyms | None = None
    ) -> None:
        self._names = names or Pseudonyms()
        self._store = store
        self._source = source
        self._keep_entities = keep_entities
        self.token: int | None = None
        """The token that this turn works under; None: what stands in the store is to be read first."""
        self._fence = (0, 0)
        """Token and number of the latest write that was confirmed."""
        self._tail = Tail()
        self._lapsed = False
        """The lease was lost and taken again: the fence, which is new, does not show whether a tail was lost."""
        self.lost_tail = False
        """The store is known to have forgotten something that it had confirmed."""

    async def begin(self, token: int) -> None:
        """Take up work under a token; raises `FencedError` if it is not the latest."""
        fence = await self._store.fence(self._source)
        if fence[0] != token:
            raise FencedError(f"source {self._source} was taken over by another replica")
        self._lapsed |= 0 < self._fence[0] < token
        self.lost_tail |= fence < self._fence
        self._fence = fence
        self.token = token

    @property
    def in_doubt(self) -> bool:
        """Whether the tail is to be minted again before anything else; it stays so until all of that is done."""
        return self._lapsed or self.lost_tail

    def restored(self) -> None:
        """All of it is done."""
        self._lapsed = self.lost_tail = False

    async def write(self, changes: Sequence[tuple[str, Change]], meta: Mapping[str, str] | None = None) -> Minted:
        """One fenced write; the fence decides whether the token that this turn began with is still good."""
        if self.token is None:
            raise FencedError(f"source {self._source} is not held")
        last = self._fence[1]
        minted = await self._store.mint(self._source, self.token, last + 1, changes, meta, last=last)
        self._fence = (self.token, last + 1)
        return minted

    async def mint(self, batch: Sequence[Change], now: datetime) -> Sequence[Change]:
        """Commit a batch; returns the changes that were not in conflict."""
        minted = await self.write([(self._source, change) for change in batch])
        refused = set(minted.conflicts)
        done = [change for change in batch if change.entity_id not in refused]
        self._tail.extend(done, now)
        return done

    def forget(self, pseudonym: str) -> None:
        """Keep nothing that speaks of a learner, so that it is never minted again."""
        is_learner = self._names.test(pseudonym)
        if is_learner is not None:
            self._tail.forget(lambda change: any(map(is_learner, _learners(change))))

    async def mint_again(self, now: datetime) -> set[str]:
        """Repeat the tail; returns the entities that the store holds in a state which is not part of it.

        If nothing was lost, that is what another holder has done meanwhile.
        """
        # No holder can have let an entity expire within half of its time, so none comes back to life.
        changes = self._tail.since(now - self._keep_entities / 2)
        return outside(changes, await self.repeat(changes))

    async def repeat(self, changes: Sequence[Change]) -> Sequence[str]:
        """Mint what may well be done already; returns the entity of each change that was in conflict."""
        conflicts: list[str] = []
        for batch in batches(changes):
            minted = await self.write([(self._source, change) for change in batch])
            self.lost_tail |= minted.applied > 0
            conflicts += minted.conflicts
        return conflicts


def batches(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """The changes in portions of one mint each."""
    return (changes[at : at + MAX_CHANGES] for at in range(0, len(changes), MAX_CHANGES))


def _learners(change: Change) -> set[str]:
    """Everybody whom a change names, in its snapshots or in its events."""
    stored = {learner_in(packed) for packed in (change.expected, change.new) if packed}
    told = set[str]().union(*(learners_of(event.payload) for event in change.events))
    return {one for one in stored if one is not None} | told
