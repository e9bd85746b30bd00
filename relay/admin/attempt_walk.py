"""The attempts of many shards as one sequence, the latest first.

Every attempt has one place in it, for ever, so a walk can be taken up again from any of them while the record grows.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from relay.core.log import Attempt, Place
from relay.store.deliveries import DeliveryStore

_CHUNK: Final = 100
_LEAST: Final = 4


class WalkKey(NamedTuple):
    """Place of one attempt among all of them; a later one is greater."""

    place: Place
    shard: int
    position: int

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """Sorts the latest first."""
        return -self.place.ms, -self.place.no, -self.shard, -self.position


@dataclass(slots=True)
class Budget:
    """How many more groups of attempts may be read for one request."""

    groups: int = 4000


class AttemptWalk:
    """An asynchronous iterator that ends with the record or the budget."""

    def __init__(
        self, deliveries: DeliveryStore, shards: Sequence[int], before: WalkKey | None, budget: Budget
    ) -> None:
        self._deliveries = deliveries
        self._before = before
        self._budget = budget
        self._count = max(_CHUNK // len(shards), _LEAST)
        self._starts = dict.fromkeys(shards, str(before.place) if before else "+")
        """From where to read on, for each shard whose record has not ended."""
        self._ahead = {shard: deque[tuple[WalkKey, Attempt]]() for shard in shards}
        self._heads: list[tuple[int, int, int, int]] = []
        """A heap: the rank of the latest attempt of each shard that has some left."""
        self._empty = list(shards)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[WalkKey, Attempt]:
        while self._empty:
            if self._budget.groups <= 0:
                raise StopAsyncIteration
            await self._read()
        if not self._heads:
            raise StopAsyncIteration
        shard = -heapq.heappop(self._heads)[2]
        found = self._ahead[shard].popleft()
        self._line_up(shard)
        return found

    async def _read(self) -> None:
        """Read on in the shards of which nothing is left, in one round trip."""
        shards, self._empty = self._empty, []
        starts = [(shard, self._starts[shard]) for shard in shards]
        replies = await self._deliveries.read_attempts(starts, self._count, newest_first=True)
        for shard, groups in zip(shards, replies, strict=True):
            self._budget.groups -= len(groups)
            self._ahead[shard].extend(self._flatten(shard, groups))
            if len(groups) < self._count:
                del self._starts[shard]
            else:
                self._starts[shard] = f"({groups[-1][0]}"
            self._line_up(shard)

    def _line_up(self, shard: int) -> None:
        if self._ahead[shard]:
            heapq.heappush(self._heads, self._ahead[shard][0][0].rank)
        elif shard in self._starts:
            self._empty.append(shard)

    def _flatten(self, shard: int, groups: Sequence[tuple[Place, list[Attempt]]]) -> list[tuple[WalkKey, Attempt]]:
        """Single attempts, newest first, without those that are known already."""
        keyed = [
            (WalkKey(place, shard, position), group[position])
            for place, group in groups
            for position in range(len(group) - 1, -1, -1)
        ]
        return [one for one in keyed if self._before is None or one[0] < self._before]
