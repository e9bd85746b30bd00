"""Scripts without their line of flags, as servers before Redis 7.0 get them, on the real server."""

import re
from importlib import resources

import pytest
from redis.asyncio import Redis

from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.deliveries import Group
from relay.store.keys import shard_of
from relay.store.scripts import text_of
from relay.store.snapshots import FencedError
from tests.helpers import command
from tests.store.minting import Minter

NAMES = sorted(path.name.removesuffix(".lua") for path in resources.files("relay.store").joinpath("lua").iterdir())
SUBSCRIBER = Subscriber(id="sub_a", url="http://127.0.0.1/a")


@pytest.mark.parametrize("name", NAMES)
def test_only_the_first_line_is_left_out(name: str) -> None:
    """What is sent to an older server holds no line of flags, and is the same text otherwise."""
    plain, flagged = text_of(name, flags=False), text_of(name)
    assert not plain.startswith("#!")
    assert re.sub(r"\A#!.*\n", "", flagged) == plain


@pytest.mark.parametrize("script_flags", [True, False])
async def test_scripts_do_the_same_with_and_without_flags(redis_client: Redis, *, script_flags: bool) -> None:
    """Leases, registry, log and commits work alike whichever text was sent."""
    store, shard = Store(redis_client, script_flags=script_flags), shard_of("sub_a")
    held = await store.leases.tick("a", "poll,deliver", ["s0"], [shard], ttl_ms=6000)
    again = await store.leases.tick("a", "poll,deliver", ["s0"], [shard], ttl_ms=6000)
    assert held.tokens == again.tokens
    assert held.tokens.keys() == {"source.s0", f"shard.{shard}"}
    await store.registry.create(SUBSCRIBER)
    await Minter(store).mint(2)
    assert await store.log.reach_replicas(0, 10)
    end = await store.log.end()
    group = Group()
    group.cursors["sub_a"] = end
    token = held.tokens[f"shard.{shard}"]
    await store.deliveries.commit(shard, token, "m1", group, 0)
    await store.deliveries.commit(shard, token, "m1", group, 0)
    assert (await store.deliveries.cursors(shard))["sub_a"] == end
    with pytest.raises(FencedError):
        await store.deliveries.commit(shard, token - 1, "m2", group, 0)
    await store.registry.delete(SUBSCRIBER)
    assert await store.registry.all() == []


async def test_a_subscriber_can_be_disabled_and_deleted_when_memory_is_full(redis_client: Redis) -> None:
    """Or nobody could get rid of the one that fills it."""
    store = Store(redis_client)
    disabled = Subscriber(id="sub_a", url="http://127.0.0.1/a", enabled=False)
    await store.registry.create(SUBSCRIBER)
    await command(redis_client, "CONFIG", "SET", "maxmemory", "1")
    try:
        await store.registry.replace(SUBSCRIBER, disabled)
        await store.registry.delete(disabled)
        held = await store.leases.tick("a", "poll", ["s0"], (), ttl_ms=6000)
    finally:
        await command(redis_client, "CONFIG", "SET", "maxmemory", "0")
    assert await store.registry.all() == []
    assert held.tokens
