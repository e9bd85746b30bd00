"""How subscribers have been doing lately; a shard's commits write it (`DeliveryStore.commit`)."""

from collections.abc import Sequence

import msgspec

from relay.core.pulse import NO_PULSE, Pulse
from relay.store.keys import Keys, shard_of
from relay.store.scripts import Client

_unpack = msgspec.msgpack.Decoder(Pulse).decode


class PulseStore:
    """Reads; one that was never attempted has none."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def of_shard(self, shard: int) -> dict[str, Pulse]:
        """Of all subscribers of a shard that have one."""
        stored = await self._client.hgetall(self._keys.pulses(shard))
        return {name.decode(): _unpack(packed) for name, packed in stored.items()}

    async def of(self, subscriber_ids: Sequence[str]) -> dict[str, Pulse]:
        """Of each of these."""
        pipe = self._client.pipeline(transaction=False)
        for one in subscriber_ids:
            pipe.hget(self._keys.pulses(shard_of(one)), one)
        replies = await pipe.execute() if subscriber_ids else []
        return {
            one: NO_PULSE if packed is None else _unpack(packed)
            for one, packed in zip(subscriber_ids, replies, strict=True)
        }
