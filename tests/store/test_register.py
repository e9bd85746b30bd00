"""REGISTER: a subscriber with its cursor, announced in the same step; changed by compare-and-set."""

import msgspec
import pytest
from redis.asyncio import Redis

from relay.core.log import Place
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.deliveries import Group
from relay.store.keys import Keys, shard_of
from relay.store.registry import ChangedMeanwhileError
from tests.store.minting import Minter

SHARD = shard_of("sub_a")
NEW = Subscriber(id="sub_a", url="http://127.0.0.1/a")


@pytest.fixture
def store(redis_client: Redis) -> Store:
    """Provide an empty store."""
    return Store(redis_client)


async def test_a_new_subscriber_begins_at_the_logs_end(store: Store) -> None:
    """Its cursor stands at the latest event; in an empty log at the beginning."""
    await store.registry.create(NEW)
    assert await store.deliveries.cursors(SHARD) == {"sub_a": Place(0, 0)}
    await store.registry.delete(NEW)
    await Minter(store).mint(3)
    await store.registry.create(NEW)
    assert await store.deliveries.cursors(SHARD) == {"sub_a": await store.log.end()}
    assert await store.registry.get("sub_a") == NEW


async def test_nothing_is_left_of_a_subscriber_that_is_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """All goes in one step: whoever deletes it may die right after that."""
    await store.registry.create(NEW)
    assert await store.registry.next_test_no("sub_a") == 1
    monkeypatch.setattr(store.client, "hdel", None)
    await store.registry.delete(NEW)
    assert not await store.client.exists(Keys().meta)


async def test_every_change_is_announced(store: Store) -> None:
    """Creating, changing and deleting each tell every replica, in the control stream."""
    start = await store.log.control_end()
    changed = msgspec.structs.replace(NEW, enabled=False)
    await store.registry.create(NEW)
    await store.registry.replace(NEW, changed)
    await store.registry.delete(changed)
    news = await store.log.wait(Place(0, 0), start, block_ms=1)
    assert [(kind, value) for _, kind, value in news.control] == [("subscriber", "sub_a")] * 3


async def test_a_change_applies_only_to_what_was_read(store: Store) -> None:
    """Who changes an older version, or creates what exists, is told so, and changes nothing."""
    first, second = (msgspec.structs.replace(NEW, description=text) for text in "12")
    await store.registry.create(NEW)
    await store.registry.replace(NEW, first)
    with pytest.raises(ChangedMeanwhileError):
        await store.registry.replace(NEW, second)
    with pytest.raises(ChangedMeanwhileError):
        await store.registry.delete(NEW)
    with pytest.raises(ChangedMeanwhileError):
        await store.registry.create(second)
    assert await store.registry.all() == [first]


async def test_a_change_keeps_the_cursor(store: Store) -> None:
    """Only creation sets a cursor."""
    await store.registry.create(NEW)
    await Minter(store).mint(3)
    await store.registry.replace(NEW, msgspec.structs.replace(NEW, enabled=False))
    assert await store.deliveries.cursors(SHARD) == {"sub_a": Place(0, 0)}


async def test_a_repeat_is_harmless(store: Store) -> None:
    """Each command may be sent again after a lost answer: it says that it is done, and announces nothing twice."""
    changed = msgspec.structs.replace(NEW, enabled=False)
    await store.registry.create(NEW)
    await Minter(store).mint(3)
    await store.registry.create(NEW)
    assert await store.deliveries.cursors(SHARD) == {"sub_a": Place(0, 0)}
    for _ in range(2):
        await store.registry.replace(NEW, changed)
    for _ in range(2):
        await store.registry.delete(changed)
    assert len((await store.log.wait(Place(0, 0), Place(0, 0), block_ms=1)).control) == 3


async def test_deletion_cleans_up(store: Store, redis_client: Redis) -> None:
    """Document, cursor and dead letters go; the other subscribers of the shard keep theirs."""
    await store.registry.create(NEW)
    held = await store.leases.tick("o", "deliver", (), [SHARD], ttl_ms=60_000)
    group = Group(cursors={"other": Place(1, 0)}, dead=[("sub_a", 1, Place(1, 0))])
    await store.deliveries.commit(SHARD, held.tokens[f"shard.{SHARD}"], 1, group, 0)
    await store.registry.delete(NEW)
    assert await store.registry.all() == []
    assert await store.deliveries.cursors(SHARD) == {"other": Place(1, 0)}
    assert not await redis_client.exists(Keys().dead("sub_a"))


async def test_a_document_of_another_version_can_still_be_changed(store: Store, redis_client: Redis) -> None:
    """One that lacks a field of today, or spells the same differently, is changed and deleted like any other."""
    await redis_client.hset(Keys().sub, "sub_a", '{"url": "http://127.0.0.1/a", "id": "sub_a"}')
    changed = msgspec.structs.replace(NEW, enabled=False)
    await store.registry.replace(NEW, changed)
    assert await store.registry.get("sub_a") == changed
