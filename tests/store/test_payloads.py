"""Payloads stand beside the log: written, read and removed with it, and those of former versions are read too."""

from typing import Any

import pytest
from redis.asyncio import Redis

from relay.core.log import START, Place
from relay.store import Store
from relay.store.keys import Keys
from tests.store.minting import SOURCE, Minter, change, event


@pytest.fixture
def store(redis_client: Redis) -> Store:
    """Provide an empty store."""
    return Store(redis_client)


async def test_the_log_itself_says_nothing_of_a_learner(store: Store, redis_client: Redis) -> None:
    """What an event says, private fields included, is in one place, from where it can be erased."""
    one = event(1, user="learner-x", private=b'{"IpAddress":"192.0.2.1"}')
    await store.snapshots.mint(SOURCE, 10, 1, [(SOURCE, change("e", b"", b"1", one))])
    dump = await redis_client.dump(Keys().log)
    assert dump is not None
    assert b"learner-x" not in dump
    assert b"192.0.2.1" not in dump
    (entry,) = await store.log.after(START, await store.log.end(), 10)
    assert (entry.payload, entry.private, entry.erased) == (one.payload, one.private, False)


async def test_an_event_that_a_former_version_wrote_is_read(store: Store, redis_client: Redis) -> None:
    """Its payload stands in the log; events of both kinds come out in order, whichever way they are read."""
    old = event(0)
    fields: Any = {
        "i": old.id,
        "t": old.type,
        "s": old.source,
        "e": old.entity_id,
        "p": old.payload,
        "x": b'{"City":"Bern"}',
    }
    place = await redis_client.xadd(Keys().log, fields)
    await redis_client.hset(Keys().index(old.id), old.id, place)
    await store.snapshots.mint(SOURCE, 10, 1, [(SOURCE, change("e", b"", b"1", event(1)))])
    entries = await store.log.after(START, await store.log.end(), 10)
    assert [one.event_id for one in entries] == [old.id, event(1).id]
    assert (entries[0].payload, entries[0].private) == (old.payload, b'{"City":"Bern"}')
    assert await store.log.before(None, 10) == entries[::-1]
    assert list((await store.log.wait(START, START, block_ms=1)).entries) == entries
    assert [await store.log.find(one.event_id) for one in entries] == entries
    assert await store.log.at([one.place for one in entries]) == entries


async def test_retention_removes_the_payload_with_its_event(store: Store, redis_client: Redis) -> None:
    """No payload outlives its event."""
    await Minter(store).mint(3)
    end = await store.log.end()
    assert await store.log.trim(end.ms + 1) == 3
    assert await redis_client.exists(Keys().payloads) == 0
    assert await store.log.at([end, Place(1, 0)]) == [None, None]
    assert await store.log.at([]) == []
