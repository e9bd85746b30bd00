"""Cursors, retries, dead letters and attempts: everything that a delivery shard writes."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from relay.core.errors import RelayError
from relay.core.log import Attempt, Place, Waiting
from relay.core.pulse import Pulse
from relay.core.tally import tally
from relay.store.delivery_state import DeliveryState, Order, Redelivered, names_of, state_of, whole_ms
from relay.store.keys import Keys, shard_of
from relay.store.leases import shard_resource
from relay.store.scripts import Client, Scripts, register
from relay.store.snapshots import FencedError

ANY_COMMIT = "*"
"""In place of the mark that a commit follows: whatever stands there is right."""
SHARD_CURSOR = "*"
"""Field of the cursor that every subscriber of the shard has that does not lag."""
_LAST = ":"
"""Stands behind every place, of which each begins with a digit."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Attempt]).decode


@dataclass(slots=True)
class Group:
    """What a shard settles together."""

    cursors: dict[str, Place] = field(default_factory=dict)
    caught_up: set[str] = field(default_factory=set)
    """Subscribers whose own cursor goes away, because the shard's says it all."""
    done: set[str] = field(default_factory=set)
    """Retries to drop."""
    due: dict[str, int] = field(default_factory=dict)
    """Retries to add, with the Unix ms at which they are due."""
    dead: list[tuple[str, int, Place]] = field(default_factory=list)
    """Subscriber, Unix ms, place of the event."""
    attempts: list[Attempt] = field(default_factory=list)
    pulses: dict[str, Pulse] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything to settle."""
        settled = self.done or self.due or self.dead or self.attempts or self.pulses
        return bool(self.cursors or self.caught_up or settled)


class LostCommitError(RelayError):
    """The store does not hold the latest commit: it has lost its tail. Nothing was written; read everything again."""


class DeliveryStore:
    """The delivery side of the store."""

    def __init__(self, client: Client, keys: Keys, scripts: Scripts) -> None:
        self._client = client
        self._keys = keys
        self._scripts = scripts
        self._redeliver = register(client, "redeliver", flags=scripts.flags)
        self._page = register(client, "page", flags=scripts.flags)
        self._bury = register(client, "bury", flags=scripts.flags)

    async def cursors(self, shard: int) -> dict[str, Place]:
        """Cursors of a shard by subscriber, `SHARD_CURSOR` for the shard's own."""
        return (await self.take_up(shard))[0]

    async def take_up(self, shard: int) -> tuple[dict[str, Place], str]:
        """Cursors of a shard as above, and the mark of its latest commit ('' if there was none)."""
        stored: Mapping[bytes, bytes] = await self._client.hgetall(self._keys.cursors(shard))
        cursors = {name.decode(): Place.parse(place) for name, place in stored.items() if name != b"#"}
        return cursors, stored.get(b"#", b"").decode()

    async def commit(
        self, shard: int, token: int, mark: object, group: Group, keep_after_ms: int, *, follows: str = ANY_COMMIT
    ) -> None:
        """Settle a group; `mark` identifies it, so that a repeat is harmless.

        `follows` is the mark that must stand there. Raises `FencedError`, and `LostCommitError` if another stands.
        """
        keys = [
            self._keys.lease,
            self._keys.cursors(shard),
            self._keys.retries(shard),
            self._keys.attempts(shard),
            self._keys.counters,
            self._keys.sub,
            self._keys.pulses(shard),
        ]
        dead: list[int | str] = []
        for subscriber_id, at_ms, place in group.dead:
            key = self._keys.dead(subscriber_id)
            if key not in keys[7:]:
                keys.append(key)
            dead += (subscriber_id, keys.index(key) + 1, at_ms, str(place))
        cursors = [text for name, place in group.cursors.items() for text in (name, str(place))]
        due = [item for member, at_ms in group.due.items() for item in (at_ms, member)]
        args = [
            *(shard_resource(shard), token, str(mark), follows),
            *(len(group.due), *due),
            *(len(group.dead), *dead),
            *(len(group.done), *group.done),
            *(_pack(group.attempts) if group.attempts else "", f"{max(keep_after_ms, 0)}-0"),
            *(len(group.caught_up), *group.caught_up),
            *(len(group.cursors), *cursors),
            *(len(group.pulses), *(item for one, pulse in group.pulses.items() for item in (one, _pack(pulse)))),
            *(item for pair in tally(group.attempts).items() for item in pair),
        ]
        verdict = await self._scripts.commit(keys, args)
        if verdict == b"FENCED":
            raise FencedError(f"shard {shard} was taken over by another replica")
        if verdict == b"LOST":
            raise LostCommitError(f"shard {shard} does not stand where it was left")

    async def due(self, shard: int, now_ms: int, limit: int) -> list[Waiting]:
        """Up to `limit` deliveries whose next attempt is due, the longest overdue first."""
        members = await self._client.zrangebyscore(self._keys.retries(shard), "-inf", now_ms, start=0, num=limit)
        return [Waiting.parse(member) for member in members]

    async def next_due_ms(self, shards: Sequence[int], after_ms: int | None) -> dict[int, int]:
        """When the first retry after `after_ms` (None: of all) is due, for each shard that has one."""
        pipe = self._client.pipeline(transaction=False)
        above = "-inf" if after_ms is None else f"({after_ms}"
        for shard in shards:
            pipe.zrangebyscore(self._keys.retries(shard), above, "+inf", start=0, num=1, withscores=True)
        replies = await pipe.execute()
        return {shard: int(found[0][1]) for shard, found in zip(shards, replies, strict=True) if found}

    async def state(self, subscriber_id: str, place: Place, attempts: int) -> DeliveryState:
        """Where a delivery stands; `attempts` is the most that its schedule allows."""
        return (await self.states([(subscriber_id, place)], attempts))[0]

    async def states(self, deliveries: Sequence[tuple[str, Place]], attempts: int) -> list[DeliveryState]:
        """Where each of several deliveries stands, in one round trip."""
        pipe = self._client.pipeline(transaction=False)
        for subscriber_id, place in deliveries:
            shard = shard_of(subscriber_id)
            members = names_of(subscriber_id, place, attempts + 1)
            pipe.hmget(self._keys.cursors(shard), [subscriber_id, SHARD_CURSOR])
            pipe.zmscore(self._keys.retries(shard), members)
            pipe.zscore(self._keys.dead(subscriber_id), str(place))
            pipe.zscore(self._keys.asked(shard), members[0])
        replies = await pipe.execute()
        return [state_of(*replies[at : at + 4]) for at in range(0, len(replies), 4)]

    async def redeliver(self, subscriber_id: str, orders: Sequence[Order]) -> list[Redelivered]:
        """Make each of these due now and wake whoever sends them; a repeat is harmless."""
        shard = shard_of(subscriber_id)
        keys = [
            self._keys.sub,
            self._keys.log,
            self._keys.retries(shard),
            self._keys.asked(shard),
            self._keys.dead(subscriber_id),
            self._keys.ctl,
            self._keys.payloads,
        ]
        args: list[Any] = [subscriber_id, shard]
        for one in orders:
            args += (str(one.place), one.kind, one.number)
        results = await self._redeliver(keys=keys, args=args)
        return [Redelivered(int(one)) for one in results] or [Redelivered.ORPHANED] * len(orders)

    async def asked(self, subscriber_id: str, place: Place, attempts: int) -> dict[int, int]:
        """When attempts of a delivery were asked for ahead of their time: attempt number → Unix ms."""
        members = names_of(subscriber_id, place, attempts + 1)
        scores = await self._client.zmscore(self._keys.asked(shard_of(subscriber_id)), members)
        return {no: int(at) for no, at in enumerate(scores, start=1) if at is not None}

    async def asked_each(self, retries: Sequence[Waiting]) -> list[int | None]:
        """When each of these attempts was asked for ahead of its time, if it was."""
        pipe = self._client.pipeline(transaction=False)
        for one in retries:
            pipe.zscore(self._keys.asked(shard_of(one.subscriber_id)), str(one))
        return [whole_ms(at) for at in await pipe.execute()] if retries else []

    async def forgotten_ms(self, shard: int) -> int:
        """Unix ms before which attempts of a shard may have been trimmed; 0: none were."""
        key = self._keys.attempts(shard)
        if not await self._client.exists(key):
            return 0
        info = await self._client.xinfo_stream(key)
        if info.get("entries-added") == info["length"]:  # Redis 6.2 does not count them
            return 0
        first = info["first-entry"]
        return Place.parse(first[0]).ms if first else Place.parse(info["last-generated-id"]).ms + 1

    async def now_ms(self) -> int:
        """The store's clock."""
        seconds, microseconds = await self._client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def attempts(
        self, shard: int, newest: str = "+", oldest: str = "-", count: int = 100
    ) -> list[tuple[str, list[Attempt]]]:
        """Groups of attempts of a shard, newest first, each with its place in the shard's stream."""
        groups = await self._client.xrevrange(self._keys.attempts(shard), newest, oldest, count)
        return [(place.decode(), _unpack(fields[b"a"])) for place, fields in groups]

    async def waiting(self, shard: int, offset: int, count: int) -> list[tuple[Waiting, int]]:
        """Retries of a shard in the order in which they are due, with their due time in ms."""
        found = await self._client.zrange(self._keys.retries(shard), offset, offset + count - 1, withscores=True)
        return [(Waiting.parse(member), int(due)) for member, due in found]

    async def waiting_of(self, subscriber_id: str) -> list[tuple[Waiting, int]]:
        """All retries of one subscriber, with their due time in ms; its shard's are looked through for them."""
        pages = self.scan(shard_of(subscriber_id), [subscriber_id])
        return list({one: due_ms async for page in pages for one, due_ms in page}.items())

    async def scan(self, shard: int, subscriber_ids: Collection[str]) -> AsyncIterator[list[tuple[Waiting, int]]]:
        """All retries of these subscribers with their due time in ms: in portions, in no order, perhaps repeatedly."""
        key, cursor, wanted = self._keys.retries(shard), -1, {one.encode() for one in subscriber_ids}
        match = b"%b|*" % next(iter(wanted)) if len(wanted) == 1 else None
        while cursor:
            cursor, found = await self._client.zscan(key, max(cursor, 0), match=match, count=500)
            yield [(Waiting.parse(name), int(due)) for name, due in found if name.partition(b"|")[0] in wanted]

    async def dead(self, subscriber_id: str, offset: int, count: int) -> list[tuple[Place, int]]:
        """Dead letters of a subscriber, newest first: place of the event, Unix ms of death."""
        found = await self._client.zrevrange(
            self._keys.dead(subscriber_id), offset, offset + count - 1, withscores=True
        )
        return [(Place.parse(place), int(at)) for place, at in found]

    async def count_dead(self, subscriber_id: str) -> int:
        """How many dead letters a subscriber has."""
        return int(await self._client.zcard(self._keys.dead(subscriber_id)))

    async def bury(self, subscriber_id: str, places: Sequence[Place], now_ms: int) -> None:
        """List events as dead letters of a subscriber, if it still exists, without an attempt; a repeat is harmless."""
        keys = [self._keys.sub, self._keys.dead(subscriber_id)]
        await self._bury(keys=keys, args=[subscriber_id, now_ms, *map(str, places)])

    async def trim_attempts(self, shards: Sequence[int], before_ms: int) -> None:
        """Forget attempts older than this; the server may keep a few more than asked.

        When a redelivery was asked for is kept as long as there are attempts from before it.
        """
        pipe = self._client.pipeline(transaction=False)
        for shard in shards:
            pipe.xtrim(self._keys.attempts(shard), minid=f"{max(before_ms, 0)}-0", approximate=True)
            pipe.xrange(self._keys.attempts(shard), "-", "+", 1)
        oldest = (await pipe.execute())[1::2]
        pipe = self._client.pipeline(transaction=False)
        for shard, found in zip(shards, oldest, strict=True):
            since_ms = Place.parse(found[0][0]).ms if found else max(before_ms, 0)
            pipe.zremrangebyscore(self._keys.asked(shard), "-inf", f"({since_ms}")
        await pipe.execute()

    async def read_attempts(
        self, starts: Sequence[tuple[int, str]], count: int, *, newest_first: bool
    ) -> list[list[tuple[Place, list[Attempt]]]]:
        """For each (shard, place to begin at) up to `count` groups of attempts, in one round trip.

        A place is a stream's id, `-`, `+`, or an id after `(`, which leaves that group out.
        """
        pipe = self._client.pipeline(transaction=False)
        for shard, start in starts:
            key = self._keys.attempts(shard)
            if newest_first:
                pipe.xrevrange(key, start, "-", count)
            else:
                pipe.xrange(key, start, "+", count)
        replies = await pipe.execute()
        return [[(Place.parse(at), _unpack(fields[b"a"])) for at, fields in groups] for groups in replies]

    async def waiting_after(
        self, shards: Sequence[int], after: tuple[int, str], count: int
    ) -> list[tuple[int, Waiting]]:
        """Up to `count` retries of these shards beyond (due ms, member), the next one due first."""
        pages = await self._pages("after", count, [(self._keys.retries(shard), *after) for shard in shards])
        found = sorted((due, name) for page in pages for name, due in page)
        return [(due, Waiting.parse(name)) for due, name in found[:count]]

    async def dead_before(
        self, subscriber_ids: Sequence[str], before: tuple[int, str, str] | None, count: int
    ) -> list[tuple[int, str, Place]]:
        """Up to `count` dead letters of these subscribers, the latest first: ms of death, subscriber, place.

        `before` is (ms, subscriber, place) of the last one that is known already.
        """
        at, known, place = before or ("+inf", "", "")
        # Of those that died in that very ms the ones of earlier subscribers follow, all of them.
        bounds = {one: place if one == known else _LAST if one < known else "" for one in subscriber_ids}
        places = [(self._keys.dead(one), at, bound) for one, bound in bounds.items()]
        pages = await self._pages("before", count, places)
        found = [(ms, one, name.decode()) for one, page in zip(bounds, pages, strict=True) for name, ms in page]
        return [(ms, one, Place.parse(name)) for ms, one, name in sorted(found, reverse=True)[:count]]

    async def _pages(
        self, order: Literal["after", "before"], count: int, places: Sequence[tuple[str, int | str, str]]
    ) -> list[list[tuple[bytes, int]]]:
        """Of each sorted set up to `count` members beyond a place in it (key, score, member), with their scores."""
        keys = [key for key, _, _ in places]
        pages = await self._page(keys=keys, args=[order, count, *(part for _, *place in places for part in place)])
        return [list(zip(page[::2], map(int, page[1::2]), strict=True)) for page in pages]
