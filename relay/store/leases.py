"""Leases with fencing tokens, by the server's clock."""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.store.keys import Keys
from relay.store.scripts import Client, Scripts


@dataclass(frozen=True, slots=True)
class Held:
    """What a replica holds after a tick."""

    now_ms: int
    """The server's clock."""
    source_share: int
    shard_share: int
    """How many this replica should hold; what is above is to be given back."""
    tokens: dict[str, int]


def source_resource(source: str) -> str:
    """Lease name of a source."""
    return f"source.{source}"


def shard_resource(shard: int) -> str:
    """Lease name of a delivery shard."""
    return f"shard.{shard}"


class LeaseStore:
    """Joining, renewing, taking and giving back."""

    def __init__(self, client: Client, keys: Keys, scripts: Scripts) -> None:
        self._client = client
        self._keys = keys
        self._scripts = scripts

    async def tick(
        self,
        owner: str,
        roles: str,
        sources: Sequence[str],
        shards: Sequence[int],
        *,
        ttl_ms: int,
        give_back: Sequence[str] = (),
        dead_owners: Sequence[str] = (),
        now_ms: int | None = None,
    ) -> Held:
        """Renew what `owner` holds and take its fair share of what is free; no roles: leave.

        `roles` is a comma-separated list of `poll` and `deliver`. `now_ms` replaces the server's clock in tests.
        """
        resources = [source_resource(name) for name in sources]
        shard_names = [shard_resource(shard) for shard in shards]
        reply = await self._scripts.tick(
            [self._keys.lease, self._keys.epoch, *(self._keys.fence(name) for name in sources)],
            [
                owner,
                ttl_ms,
                "" if now_ms is None else now_ms,
                roles,
                *(len(resources), *resources),
                *(len(shard_names), *shard_names),
                *(len(give_back), *give_back),
                *(len(dead_owners), *dead_owners),
            ],
        )
        now, source_share, shard_share, *held = [item.decode() for item in reply]
        tokens = dict(zip(held[::2], map(int, held[1::2]), strict=True))
        return Held(int(now), int(source_share), int(shard_share), tokens)

    async def owners(self) -> list[str]:
        """Names of the replicas that have joined and not left, alive or not."""
        fields = await self._client.hkeys(self._keys.lease)
        return [field.decode()[1:] for field in fields if field.startswith(b"@")]

    async def served(self, resources: Sequence[str], now_ms: int) -> set[str]:
        """Which of these some replica holds that is alive at this time by the store's clock; how, `tick.lua` says."""
        leases = await self._client.hmget(self._keys.lease, list(resources)) if resources else []
        holders = [None if lease is None else lease.split(b":")[1] for lease in leases]
        names = sorted({holder for holder in holders if holder is not None})
        replicas = await self._client.hmget(self._keys.lease, [b"@" + name for name in names]) if names else []
        alive = {
            name
            for name, replica in zip(names, replicas, strict=True)
            if replica is not None and int(replica.rpartition(b":")[2]) > now_ms
        }
        return {name for name, holder in zip(resources, holders, strict=True) if holder in alive}
