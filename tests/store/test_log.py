"""The log: read from any place, found by id, trimmed by age; and the control stream next to it."""

import pytest
from redis.asyncio import Redis

from relay.core.log import START, Place
from relay.store import Store
from relay.store.log import TRIM_BATCH
from tests.store.minting import Minter


@pytest.fixture
def store(redis_client: Redis) -> Store:
    """Provide an empty store."""
    return Store(redis_client)


async def test_reading_goes_on_from_any_place(store: Store) -> None:
    """Chunk by chunk, forwards and backwards, every event comes exactly once."""
    ids = await Minter(store).mint(25)
    end = await store.log.end()
    place, found = START, []
    while chunk := await store.log.after(place, end, 10):
        found += [entry.event_id for entry in chunk]
        place = chunk[-1].place
    assert found == ids
    newest = await store.log.before(None, 10)
    older = await store.log.before(newest[-1].place, 100)
    assert [entry.event_id for entry in [*newest, *older]] == ids[::-1]


async def test_reading_stops_at_the_place_given(store: Store) -> None:
    """What lies behind `until` is not for this reader yet."""
    await Minter(store).mint(10)
    entries = await store.log.after(START, await store.log.end(), 100)
    assert await store.log.after(entries[1].place, entries[4].place, 100) == entries[2:5]


async def test_an_empty_log_has_a_beginning(store: Store) -> None:
    """Nothing is read, nothing is found, and a wait ends after its time."""
    assert await store.log.end() == START
    assert await store.log.control_end() == START
    news = await store.log.wait(START, START, block_ms=1)
    assert (list(news.entries), list(news.control)) == ([], [])


async def test_waiting_hands_out_events_and_control_messages(store: Store) -> None:
    """Both streams come with one read, each from its own place."""
    ids = await Minter(store).mint(2)
    await store.log.announce("poll", "lod")
    news = await store.log.wait(START, START, block_ms=1)
    assert [entry.event_id for entry in news.entries] == ids
    assert [(kind, value) for _, kind, value in news.control] == [("poll", "lod")]
    later = await store.log.wait(news.entries[0].place, news.control[0][0], block_ms=1)
    assert [entry.event_id for entry in later.entries] == ids[1:]
    assert list(later.control) == []


async def test_places_that_are_gone_are_told(store: Store) -> None:
    """Each place asked for has an answer, None where no event stands."""
    ids = await Minter(store).mint(2)
    end = await store.log.end()
    found = await store.log.at([end, Place(1, 0)])
    assert [entry and entry.event_id for entry in found] == [ids[1], None]
    assert await store.log.at([]) == []


async def test_trimming_removes_events_with_their_index(store: Store, redis_client: Redis) -> None:
    """In bounded steps, and only what is older; nothing of the index is left behind."""
    ids = await Minter(store).mint(TRIM_BATCH + 10)
    end = await store.log.end()
    assert await store.log.trim(0) == 0
    assert await store.log.trim(end.ms + 1) == TRIM_BATCH
    assert await store.log.find(ids[TRIM_BATCH - 1]) is None
    assert await store.log.find(ids[TRIM_BATCH]) is not None
    assert await store.log.trim(end.ms + 1) == 10
    assert [key async for key in redis_client.scan_iter("{relay}:ix:*")] == []


async def test_a_gate_without_replicas_is_open(store: Store) -> None:
    """Nothing is asked for, so it is reached; one replica is not, because there is none."""
    assert await store.log.reach_replicas(0, 10)
    assert not await store.log.reach_replicas(1, 10)


async def test_the_extent_outlives_what_is_trimmed(store: Store) -> None:
    """The end is the last place given out, and how far retention went is noted; both only grow."""
    assert (await store.log.extent()).end == START
    await Minter(store).mint(3)
    entries = await store.log.after(START, await store.log.end(), 10)
    extent = await store.log.extent()
    assert (extent.end, extent.trimmed, extent.durable) == (entries[-1].place, START, True)
    await store.log.trim(entries[-1].place.ms + 1)
    extent = await store.log.extent(1, 10)
    assert (extent.end, extent.trimmed, extent.durable) == (entries[-1].place, entries[-1].place, False)
    found, trimmed = await store.log.kept_after(entries[0].place, extent.end, 10)
    assert (found, trimmed) == ([], entries[-1].place)


async def test_the_note_of_what_was_trimmed_never_goes_back(store: Store, redis_client: Redis) -> None:
    """Somebody who kept house before and was paused does not hide what another one has removed."""
    await Minter(store).mint(2)
    end = await store.log.end()
    await redis_client.hset("{relay}:meta", "trimmed", str(Place(end.ms + 5, 3)))
    await store.log.trim(end.ms + 1)
    assert (await store.log.extent()).trimmed == Place(end.ms + 5, 3)
