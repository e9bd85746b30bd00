"""Erasing a learner: what is stored about them goes, and everything else stays as it was.

Where a learner is, and what becomes of it:

- Snapshots (labs name their learner): the id gives way to a keyed pseudonym, so that the next poll's rows are no news.
- Events that speak of the learner, also of a lab handed over to or from them: the payload is deleted. The log keeps
  type, source, entity and id of the event, so places, cursors and sequence numbers stay as they are.
- Deliveries of these events, queued, due later or dead: cancelled; none is attempted any more.
- Attempts at them: the subscriber's answer, which may echo what it was sent, is emptied.
- Answers that are kept for requests that are repeated (`Idempotency-Key`), which may show what subscribers answered, or
  a filter: everybody's become unreadable, because what their keys are made of is removed. That is done when everything
  they could show is gone, so a request that read it before, and keeps its answer after, has sealed it for nobody.
- Memories of replicas (snapshots and latest mints, queues): emptied; the control stream tells them.
- Subscribers' filters that name the learner: listed, because they are the operator's own.
- The server's append-only file: written anew, see `store.disk`.

Not reached: what was sent before, the upstream itself (a new transition of the same learner there is told again, as new
data), files of the server's replicas, backups.

Invariant: the payloads go last of all that is found by them. Whatever stops an erasure before, they are found again and
everything is done again; what comes after them, every erasure does. Each step is harmless to repeat. A learner nobody
has heard of gives the same answer with zeros.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from relay.core.erasure import Pseudonyms, Search, forgotten
from relay.core.errors import RelayError
from relay.core.log import START, Entry
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.erasure import BATCH, REACH_MS
from relay.store.keys import SHARDS

SETTLE_S = 0.5
"""Replicas have heard by then, and committed what they had just attempted."""
PLACES_TOLD = 200
"""In one message: about four kilobytes."""
COPIED = 20_000
"""A log of so many events, about ten megabytes, is written anew at once if a former version kept payloads in it."""


class NotReplicatedError(RelayError):
    """The erasure does not stand on all replicas of the store yet: a failover could undo it."""


@dataclass(slots=True)
class Report:
    """What was done; counts by source."""

    pseudonym: str
    entities: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    filters: list[str] = field(default_factory=list)
    """Subscribers whose filter names the learner."""
    on_disk: bool = True
    """Whether the server's file is being rid of it."""


class Erasure:
    """Erases learners one after the other; `sources` are the configured ones.

    `wait_replicas` of the store's replicas must have it, or as many as there are if these are more.
    """

    def __init__(self, store: Store, names: Pseudonyms, sources: Iterable[str], *, wait_replicas: int = 0) -> None:
        self._store = store
        self._names = names
        self._sources = frozenset(sources)
        self._wait_replicas = wait_replicas
        self._turn = asyncio.Lock()

    def pseudonym(self, user_id: str) -> str:
        """What stands for a learner; safe to log."""
        return self._names.of(user_id)

    async def erase(self, user_id: str) -> Report:
        """Erase what is stored of a learner. Raises `NotReplicatedError`: then repeat it."""
        async with self._turn:
            search, report = Search(user_id), Report(self.pseudonym(user_id))
            for source in sorted(self._sources | await self._store.erasure.sources()):
                await self._pseudonymise(source, search, report)
            await self._store.log.announce("forget", report.pseudonym)
            entries = await self._find(search)
            subscribers = await self._store.registry.all()
            waiting = await self._stop(entries, subscribers, report) if entries else {}
            rest = [one for at in range(0, len(entries), BATCH) for one in await self._drop(entries[at : at + BATCH])]
            report.events.update(entry.source for entry in entries)
            for shard, retries in waiting.items():  # last: whoever looks at them now sees that they were erased
                await self._store.erasure.make_due(shard, retries)
            await self._store.erasure.forget_answers()
            report.filters = [one.id for one in subscribers if user_id in one.filter.user_ids]
            rid = not rest or await self._store.erasure.rewrite_log(COPIED)
            report.on_disk = await self._store.disk.want() and rid
            await self._reach_replicas()
            return report

    async def _pseudonymise(self, source: str, search: Search, report: Report) -> None:
        for buckets in self._store.erasure.state_batches():
            while True:
                found = await self._store.erasure.snapshots(source, buckets)
                mine = [(entity_id, packed) for entity_id, packed in found if search.in_snapshot(packed)]
                changes = [(entity_id, packed, forgotten(packed, report.pseudonym)) for entity_id, packed in mine]
                changed = await self._store.erasure.swap(source, changes)
                report.entities[source] += changed
                if changed == len(changes):
                    break  # else the source's holder has changed one at the same moment: it is read again

    async def _find(self, search: Search) -> list[Entry]:
        """The events that speak of the learner, without what they say."""
        found: list[Entry] = []
        place, end = START, await self._store.log.end()
        while chunk := await self._store.log.after(place, end, BATCH):
            place = chunk[-1].place
            found += [one.without_payload() for one in chunk if not one.erased and search.in_payload(one.payload)]
            await asyncio.sleep(0)  # much of a long log may be read already: let others have their turn
        return found

    async def _stop(
        self, entries: Sequence[Entry], subscribers: Sequence[Subscriber], report: Report
    ) -> dict[int, Iterable[str]]:
        """Have every replica send none of these any more, then clear what was noted of their deliveries.

        Returns the retries among these, by shard.
        """
        source_of = {entry.place: entry.source for entry in entries}
        places = list(source_of)
        retries = {shard: await self._store.erasure.retries(shard, source_of.keys()) for shard in range(SHARDS)}
        for at in range(0, len(places), PLACES_TOLD):
            await self._store.log.announce("erased", " ".join(map(str, places[at : at + PLACES_TOLD])))
        await asyncio.sleep(SETTLE_S)
        for subscriber in subscribers:
            for at in range(0, len(places), BATCH):
                dead = await self._store.erasure.drop_dead(subscriber.id, places[at : at + BATCH])
                report.dead_letters.update(source_of[place] for place in dead)
        for shard, waiting in retries.items():
            report.retries.update(source_of[place] for place in waiting.values())
            cleared = await self._store.erasure.clear_attempts(shard, source_of.keys())
            report.answers.update(source_of[place] for place in cleared)
        return {shard: waiting for shard, waiting in retries.items() if waiting}

    async def _drop(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        await asyncio.sleep(0)
        return await self._store.erasure.erase(entries)

    async def _reach_replicas(self) -> None:
        replicas = max(self._wait_replicas, await self._store.erasure.replicas())
        if replicas and not await self._store.log.reach_replicas(replicas, REACH_MS):
            raise NotReplicatedError("it is erased, but not on every replica of the store yet: send this again")
