"""Subscribers at rest."""

from collections.abc import Sequence

import msgspec

from relay.core.errors import RelayError
from relay.core.log import BEHIND_MS, SHELVED_MS
from relay.core.model import Event
from relay.core.subscriber import Subscriber
from relay.store.keys import Keys, shard_of
from relay.store.scripts import Client, Scripts

_SWEPT = 1000
"""Retries that are looked at in one go."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Subscriber).decode


class ChangedMeanwhileError(RelayError):
    """Somebody else changed the subscriber between reading and writing."""


class RegistryStore:
    """The registry; every change is announced to all replicas in the same step."""

    def __init__(self, client: Client, keys: Keys, scripts: Scripts) -> None:
        self._client = client
        self._keys = keys
        self._scripts = scripts

    async def all(self) -> list[Subscriber]:
        """Every subscriber, oldest first."""
        documents = await self._client.hvals(self._keys.sub)
        return sorted(map(_decode, documents), key=lambda one: (one.created_at, one.id))

    async def get(self, subscriber_id: str) -> Subscriber | None:
        """One subscriber."""
        document = await self._client.hget(self._keys.sub, subscriber_id)
        return None if document is None else _decode(document)

    async def create(self, subscriber: Subscriber) -> None:
        """Register; it receives what is minted from now on."""
        await self._put(subscriber.id, b"", _encode(subscriber))

    async def replace(self, old: Subscriber, new: Subscriber, event: Event | None = None) -> None:
        """Change, together with the event that tells of it; raises `ChangedMeanwhileError` if `old` is not stored."""
        await self._put(old.id, await self._stored(old), _encode(new), event)

    async def delete(self, old: Subscriber) -> None:
        """Remove, with its cursor, its dead letters, its replays, its pulse and the number of its tests."""
        await self._put(old.id, await self._stored(old), b"")

    async def wake(self, subscriber_id: str) -> None:
        """Have whoever sends to a subscriber try it at once: somebody knows that it is well."""
        await self._client.xadd(self._keys.ctl, {"k": "well", "v": subscriber_id}, maxlen=10_000)

    async def trim_dead(self, before_ms: int) -> None:
        """Forget the dead letters of all subscribers that died before this."""
        pipe = self._client.pipeline(transaction=False)
        for subscriber_id in await self._client.hkeys(self._keys.sub):
            pipe.zremrangebyscore(self._keys.dead(subscriber_id.decode()), "-inf", f"({before_ms}")
        await pipe.execute()

    async def drop_orphans(self, shards: Sequence[int]) -> None:
        """Remove retries that wait for something else than their time, and have lost their subscriber."""
        for shard in shards:
            key, at = self._keys.retries(shard), 0
            while members := await self._client.zrangebyscore(key, SHELVED_MS, BEHIND_MS, start=at, num=_SWEPT):
                names = sorted({one.split(b"|")[0] for one in members})
                known = zip(names, await self._client.hmget(self._keys.sub, names), strict=True)
                gone = {name for name, document in known if document is None}
                orphans = [one for one in members if one.split(b"|")[0] in gone]
                if orphans:
                    await self._client.zrem(key, *orphans)
                at += len(members) - len(orphans)

    async def next_test_no(self, subscriber_id: str) -> int:
        """Number of the next test of a subscriber, from 1; no two tests share one."""
        return int(await self._client.hincrby(self._keys.meta, f"test:{subscriber_id}", 1))

    async def _stored(self, subscriber: Subscriber) -> bytes:
        """How this very subscriber is written in the store: another version may have spelt it differently."""
        document: bytes | None = await self._client.hget(self._keys.sub, subscriber.id)
        same = document is not None and _decode(document) == subscriber
        return document if document is not None and same else _encode(subscriber)

    async def _put(self, subscriber_id: str, expected: bytes, new: bytes, event: Event | None = None) -> None:
        keys = self._keys
        index, told = list[str](), list[str | bytes]()
        if event is not None:
            line, tag = keys.timeline(event.source, event.entity_id)
            index = [keys.index(event.id), line]
            told = [event.id, event.type, event.source, event.entity_id, event.payload, tag]
        done = await self._scripts.register(
            [
                keys.sub,
                keys.ctl,
                keys.log,
                keys.cursors(shard_of(subscriber_id)),
                keys.dead(subscriber_id),
                keys.replaying,
                keys.replays(subscriber_id),
                keys.counters,
                keys.meta,
                keys.pulses(shard_of(subscriber_id)),
                *index,
            ],
            [subscriber_id, expected, new, *told],
        )
        if not done:
            raise ChangedMeanwhileError("the subscriber was changed by somebody else meanwhile; read it again")
