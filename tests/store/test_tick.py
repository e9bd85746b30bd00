"""TICK: leases by the server's time, fair shares, and tokens that only grow."""

import pytest
from redis.asyncio import Redis

from relay.store import Store
from relay.store.leases import Held
from relay.store.snapshots import FencedError
from tests.helpers import command
from tests.store.minting import first_sights

TTL_MS = 6000
NOW_MS = 1_800_000_000_000
SHARDS = range(32)
SOURCES = ("s0", "s1", "s2")


class Replicas:
    """Several owners on one store, at a time that the test sets."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now_ms = NOW_MS
        self._excess: dict[str, list[str]] = {}

    async def tick(self, owner: str, roles: str = "poll,deliver", **options: tuple[str, ...]) -> Held:
        """One turn of a replica that gives back what is above its share, as `Leases` does."""
        held = await self.store.leases.tick(
            owner,
            roles,
            SOURCES,
            SHARDS,
            ttl_ms=TTL_MS,
            now_ms=self.now_ms,
            **{"give_back": self._excess.get(owner, ()), **options},
        )
        kinds = (("source.", held.source_share), ("shard.", held.shard_share))
        self._excess[owner] = [
            name for kind, share in kinds for name in sorted(n for n in held.tokens if n.startswith(kind))[share:]
        ]
        return held


def shards_of(held: Held) -> set[str]:
    """Shards among what is held."""
    return {name for name in held.tokens if name.startswith("shard.")}


def sources_of(held: Held) -> set[str]:
    """Sources among what is held."""
    return {name for name in held.tokens if name.startswith("source.")}


@pytest.fixture
def replicas(redis_client: Redis) -> Replicas:
    """Provide replicas on an empty store."""
    return Replicas(Store(redis_client))


@pytest.mark.parametrize(("count", "most_shards", "most_sources"), [(1, 32, 3), (2, 16, 2), (3, 11, 1)])
async def test_replicas_hold_fair_shares(replicas: Replicas, count: int, most_shards: int, most_sources: int) -> None:
    """However many replicas there are, each resource has one holder and none holds more than its share."""
    names = [f"r{number}" for number in range(count)]
    for _ in range(4):
        held = [await replicas.tick(name) for name in names]
    for pick, all_of_them, most in ((shards_of, 32, most_shards), (sources_of, 3, most_sources)):
        groups = [pick(one) for one in held]
        assert len(set().union(*groups)) == sum(map(len, groups)) == all_of_them
        assert max(map(len, groups)) == most


async def test_a_role_that_a_replica_lacks_gives_it_nothing(replicas: Replicas) -> None:
    """A replica that only polls holds no shard, and does not make the shares of those that deliver smaller."""
    await replicas.tick("poller", "poll")
    held = await replicas.tick("deliverer", "deliver")
    assert len(shards_of(held)) == 32
    assert sources_of(held) == set()
    assert shards_of(await replicas.tick("poller", "poll")) == set()


async def test_a_lease_ends_when_it_was_not_renewed(replicas: Replicas) -> None:
    """A silent holder loses everything after its time, not a millisecond before, and the tokens grow."""
    old = await replicas.tick("a")
    replicas.now_ms += TTL_MS - 1
    assert (await replicas.tick("b")).tokens == {}
    replicas.now_ms += 1
    new = await replicas.tick("b")
    assert new.tokens.keys() == old.tokens.keys()
    assert all(new.tokens[name] > old.tokens[name] for name in old.tokens)
    assert (await replicas.tick("a", give_back=())).tokens == {}


async def test_a_renewal_keeps_the_tokens(replicas: Replicas) -> None:
    """Renewing, and repeating a tick whose answer was lost, changes no token."""
    held = await replicas.tick("a")
    for _ in range(3):
        replicas.now_ms += TTL_MS - 1
        assert (await replicas.tick("a")).tokens == held.tokens


async def test_tokens_are_unique(replicas: Replicas) -> None:
    """No two resources share a token, though they are taken in the same millisecond."""
    held = await replicas.tick("a")
    assert len(set(held.tokens.values())) == 35


async def test_tokens_grow_even_when_the_counter_is_lost(replicas: Replicas, redis_client: Redis) -> None:
    """A store that lost its counter, and whose clock was set back, still gives higher tokens than before."""
    old = await replicas.tick("a")
    await redis_client.delete("{relay}:epoch")
    replicas.now_ms -= 3_600_000
    new = await replicas.tick("b", dead_owners=("a",))
    assert all(new.tokens[name] > old.tokens[name] for name in old.tokens)
    await redis_client.delete("{relay}:epoch", "{relay}:lease")
    third = await replicas.tick("c")
    assert third.tokens["source.s0"] > new.tokens["source.s0"]


async def test_taking_a_source_raises_its_fence_first(replicas: Replicas) -> None:
    """The former holder's mint is refused from the moment at which the source is taken, before anything is read."""
    old = await replicas.tick("a")
    changes = [("s0", change) for change in first_sights(())]
    await replicas.store.snapshots.mint("s0", old.tokens["source.s0"], 1, changes)
    new = await replicas.tick("b", dead_owners=("a",))
    assert await replicas.store.snapshots.fence("s0") == (new.tokens["source.s0"], 0)
    with pytest.raises(FencedError):
        await replicas.store.snapshots.mint("s0", old.tokens["source.s0"], 2, changes)


async def test_renewing_a_source_leaves_its_fence_alone(replicas: Replicas, redis_client: Redis) -> None:
    """Only a lost fence is put back; one that the holder has moved stays."""
    held = await replicas.tick("a")
    token = held.tokens["source.s0"]
    await replicas.store.snapshots.mint("s0", token, 7, ())
    await redis_client.delete("{relay}:fence:s1")
    await replicas.tick("a")
    assert await replicas.store.snapshots.fence("s0") == (token, 7)
    assert await replicas.store.snapshots.fence("s1") == (held.tokens["source.s1"], 0)


async def test_what_is_given_back_goes_to_the_next(replicas: Replicas) -> None:
    """A second replica gets its share as soon as the first has given back, without any lease running out."""
    await replicas.tick("a")
    assert (await replicas.tick("b")).tokens == {}
    await replicas.tick("a")
    assert len(shards_of(await replicas.tick("a"))) == 16
    assert len(shards_of(await replicas.tick("b"))) == 16


async def test_nobody_gives_back_what_another_holds(replicas: Replicas) -> None:
    """A lock released without its owner's token (seen in several).

    Giving back again, after a lost answer, does not take the lease from its new holder.
    """
    await replicas.tick("a")
    held = await replicas.tick("b", dead_owners=("a",))
    await replicas.tick("a", give_back=tuple(held.tokens))
    assert (await replicas.tick("b", give_back=())).tokens == held.tokens


async def test_leaving_gives_everything_back_at_once(replicas: Replicas) -> None:
    """After a replica has left the next one need not wait for any lease to run out."""
    await replicas.tick("a")
    await replicas.tick("a", "")
    held = await replicas.tick("b")
    assert len(held.tokens) == 35
    assert await replicas.store.leases.owners() == ["b"]


async def test_leases_of_the_dead_are_free(replicas: Replicas) -> None:
    """What belongs to a replica that is known to be gone is taken at once."""
    await replicas.tick("a")
    assert len((await replicas.tick("b", dead_owners=("a",))).tokens) == 35


async def test_a_renewal_writes_one_field(replicas: Replicas, redis_client: Redis) -> None:
    """Renewing changes the owner's expiry and nothing else, whatever it holds."""
    await replicas.tick("a")
    before = await redis_client.hgetall("{relay}:lease")
    replicas.now_ms += 1500
    await replicas.tick("a")
    after = await redis_client.hgetall("{relay}:lease")
    assert len(before) == len(after) == 36
    assert {field for field in after if after[field] != before[field]} == {b"@a"}


async def test_leases_of_a_former_version_count(replicas: Replicas, redis_client: Redis) -> None:
    """A value with an expiry of its own is another's until then, and taken with a higher token after that."""
    token, until_ms = replicas.now_ms + 50_000, replicas.now_ms + 100
    await redis_client.hset("{relay}:lease", "source.s0", f"{token}:old:{until_ms}")
    assert "source.s0" not in (await replicas.tick("a")).tokens
    replicas.now_ms = until_ms
    assert (await replicas.tick("a")).tokens["source.s0"] > token
    assert (await command(redis_client, "HGET", "{relay}:lease", "source.s0")).endswith(b":a")


async def test_what_its_holder_does_not_ask_for_any_more_is_free(replicas: Replicas) -> None:
    """A lease lives as long as its holder, so one that the holder has dropped must not stay."""
    await replicas.tick("a")
    await replicas.store.leases.tick("a", "poll", ["s0"], (), ttl_ms=TTL_MS, now_ms=replicas.now_ms)
    held = await replicas.tick("b", give_back=())
    assert len(shards_of(held)) == 32
    assert sources_of(held) == {"source.s1", "source.s2"}


async def test_time_is_the_servers(replicas: Replicas) -> None:
    """Without a time from the test the server's clock counts."""
    before = (await replicas.store.leases.tick("a", "poll", (), (), ttl_ms=1000)).now_ms
    after = (await replicas.store.leases.tick("a", "poll", (), (), ttl_ms=1000)).now_ms
    assert 1_700_000_000_000 < before <= after
