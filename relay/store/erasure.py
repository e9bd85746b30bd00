"""What an erasure reads and writes; each step is harmless to repeat."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from relay.core.log import Attempt, Entry, Place, Waiting
from relay.store.deliveries import DeliveryStore
from relay.store.keys import STATE_BUCKETS, Keys
from relay.store.rewrite import MovedError, Rewrite
from relay.store.scripts import Client, Scripts, register

STATE_BATCH = 128
"""Buckets of snapshots that are read at once, about 12,000 entities at the design's size."""
BATCH = 500
GROUPS = 50
"""Groups of attempts at once, of up to about a hundred each."""
BUSY_S = 0.1
"""Pause while another replica writes the same record anew."""
REACH_MS = 2000
_KNOWN_BY = ("wm:", "status:")

_pack = msgspec.msgpack.Encoder().encode


class ErasureStore:
    """The parts of a store from which a learner is erased."""

    def __init__(self, client: Client, keys: Keys, scripts: Scripts, deliveries: DeliveryStore) -> None:
        self._client = client
        self._keys = keys
        self._deliveries = deliveries
        self._swap = register(client, "swap", flags=scripts.flags)
        self._flags = scripts.flags

    async def sources(self) -> set[str]:
        """Every source that was ever polled, also one that is configured no longer."""
        fields = [field.decode() for field in await self._client.hkeys(self._keys.meta)]
        return {field.removeprefix(mark) for field in fields for mark in _KNOWN_BY if field.startswith(mark)}

    def state_batches(self) -> Iterator[range]:
        """All buckets of snapshots, in portions."""
        return (range(at, min(at + STATE_BATCH, STATE_BUCKETS)) for at in range(0, STATE_BUCKETS, STATE_BATCH))

    async def snapshots(self, source: str, buckets: Iterable[int]) -> list[tuple[str, bytes]]:
        """The snapshots in these buckets, packed, with their entities."""
        pipe = self._client.pipeline(transaction=False)
        for bucket in buckets:
            pipe.hgetall(self._keys.state_bucket(source, bucket))
        return [(entity.decode(), packed) for found in await pipe.execute() for entity, packed in found.items()]

    async def swap(self, source: str, snapshots: Sequence[tuple[str, bytes, bytes]]) -> int:
        """Put the new snapshot in the place of the old one for each (entity, old, new); how many still were the old."""
        keys, args = list[str](), list[int | str | bytes]()
        for number, (entity_id, old, new) in enumerate(snapshots, start=1):
            keys.append(self._keys.state(source, entity_id))
            args += (number, entity_id, old, new)
        return int(await self._swap(keys=keys, args=args)) if keys else 0

    async def retries(self, shard: int, places: AbstractSet[Place]) -> dict[str, Place]:
        """The deliveries of these events that wait for another attempt, by name."""
        members = [member async for member, _ in self._client.zscan_iter(self._keys.retries(shard), count=BATCH)]
        found = {member.decode(): Waiting.parse(member).place for member in members}
        return {name: place for name, place in found.items() if place in places}

    async def make_due(self, shard: int, retries: Iterable[str]) -> None:
        """Have the holder of a shard look at these now: it drops those of which the event was erased."""
        due = dict.fromkeys(retries, await self._deliveries.now_ms())
        await self._client.zadd(self._keys.retries(shard), due, xx=True)
        await self._client.xadd(self._keys.ctl, {"k": "due", "v": shard}, maxlen=10_000)

    async def drop_dead(self, subscriber_id: str, places: Sequence[Place]) -> list[Place]:
        """Take the dead letters of these events out; those that were there."""
        members = [str(place) for place in places]
        key = self._keys.dead(subscriber_id)
        scores = await self._client.zmscore(key, members)
        dead = [place for place, score in zip(places, scores, strict=True) if score is not None]
        if dead:
            await self._client.zrem(key, *map(str, dead))
        return dead

    async def clear_attempts(self, shard: int, places: AbstractSet[Place]) -> list[Place]:
        """Empty the subscribers' answers in the record of attempts at these events; the place of each that had one."""
        while groups := await self._groups_with_answers(shard, places):
            try:
                return await self._without_answers(shard, groups, places)
            except MovedError:
                await asyncio.sleep(BUSY_S)
        return []

    async def _groups_with_answers(self, shard: int, places: AbstractSet[Place]) -> list[Place]:
        start, wanted, found = f"{min(places).ms}-0", {str(place) for place in places}, list[Place]()
        while True:
            (groups,) = await self._deliveries.read_attempts([(shard, start)], GROUPS, newest_first=False)
            found += [at for at, group in groups if any(one.body and one.place in wanted for one in group)]
            if len(groups) < GROUPS:
                return found
            start = f"({groups[-1][0]}"

    async def _without_answers(self, shard: int, hit: Sequence[Place], places: AbstractSet[Place]) -> list[Place]:
        """Write the record of attempts anew; these groups of it speak of the events."""
        wanted, cleared = {str(place): place for place in places}, list[Place]()
        rewrite = self._rewrite(self._keys.attempts(shard))
        await rewrite.begin()
        for number in range(0, len(hit), GROUPS):
            some, changed = hit[number : number + GROUPS], dict[str, bytes]()
            starts = [(shard, str(at)) for at in some]
            read = await self._deliveries.read_attempts(starts, 1, newest_first=False)
            for at, group in {at: group for groups in read for at, group in groups}.items():
                cleared += [wanted[one.place] for one in group if one.body and one.place in wanted]
                changed[str(at)] = _pack([without_answer(one) if one.place in wanted else one for one in group])
            await rewrite.go_on("+" if some[-1] == hit[-1] else str(some[-1]), changed)
        return cleared

    async def erase(self, entries: Sequence[Entry]) -> list[Entry]:
        """Erase what events say. Returns those whose bytes are still in the log, from which nothing can be cut out."""
        places = [str(entry.place) for entry in entries]
        apart = set(await self._kept_apart(places))
        inside = [entry for entry in entries if str(entry.place) not in apart]
        pipe = self._client.pipeline(transaction=False)
        if apart:
            pipe.hdel(self._keys.payloads, *apart)
        for entry in inside:
            pipe.hdel(self._keys.index(entry.event_id), entry.event_id)
            pipe.xdel(self._keys.log, str(entry.place))
        await pipe.execute()
        return inside

    async def _kept_apart(self, places: Sequence[str]) -> list[str]:
        pipe = self._client.pipeline(transaction=False)
        for place in places:
            pipe.hexists(self._keys.payloads, place)
        return [place for place, apart in zip(places, await pipe.execute(), strict=True) if apart]

    async def forget_answers(self) -> None:
        """Make the kept answers of requests unreadable for good: what their keys are made of goes."""
        await self._client.delete(self._keys.answers)

    async def rewrite_log(self, most: int) -> bool:
        """Write the log anew, without what was deleted from it; False: it has more than `most` events to copy.

        At once, because somebody may erase more of it meanwhile, and what was copied before would come back.
        """
        if await self._client.xlen(self._keys.log) > most:
            return False
        return await self._rewrite(self._keys.log).at_once(2 * most)

    def _rewrite(self, key: str) -> Rewrite:
        return Rewrite(self._client, key, flags=self._flags)

    async def replicas(self) -> int:
        """How many replicas the server has at the moment."""
        return int((await self._client.info("replication")).get("connected_slaves", 0))


def without_answer(attempt: Attempt) -> Attempt:
    """An attempt without what the subscriber answered: it may have echoed what it was sent."""
    return msgspec.structs.replace(attempt, body=b"")
