"""The places of an entity's events: found without reading the log, removed with the events, cheap."""

import pytest
from redis.asyncio import Redis

from relay.core.log import START, Entry, Place
from relay.core.notice import change_state
from relay.core.subscriber import State, Subscriber
from relay.store import Store
from relay.store.keys import Keys
from tests.service.upstreams import NOW
from tests.store.minting import SOURCE, change, event

KEYS = "{relay}:tl:*"


@pytest.fixture
def store(redis_client: Redis) -> Store:
    """Provide an empty store."""
    return Store(redis_client)


async def _mint(store: Store, *entities: str, first: int = 0) -> None:
    held = await store.leases.tick("t", "poll", [SOURCE], (), ttl_ms=60_000)
    made = [event(first + number, entity_id=one) for number, one in enumerate(entities)]
    changes = [(SOURCE, change(f"{one.id}", b"", b"1", one)) for one in made]
    await store.snapshots.mint(SOURCE, held.tokens[f"source.{SOURCE}"], 1, changes)
    await store.snapshots.mint(SOURCE, held.tokens[f"source.{SOURCE}"], 1, changes)  # a repeat changes nothing


async def _of(store: Store, entity_id: str, after: Place = START, count: int = 100) -> list[Entry]:
    return await store.log.of_entity(SOURCE, entity_id, after, await store.log.end(), count)


async def test_an_entity_has_its_own_events_in_order(store: Store) -> None:
    """From any place, up to any number; of others nothing, and of an unknown one nothing."""
    await _mint(store, "a", "b", "a", "c", "a", "a")
    mine = await _of(store, "a")
    assert [one.entity_id for one in mine] == ["a"] * 4
    assert mine == sorted(mine, key=lambda one: one.place)
    assert await _of(store, "a", mine[0].place, 2) == mine[1:3]
    assert len(await _of(store, "b")) == 1
    assert await _of(store, "") == []
    assert await store.log.of_entity("other", "a", START, mine[-1].place, 10) == []
    assert await store.log.of_entity(SOURCE, "a", START, mine[1].place, 10) == mine[:2]
    latest = await store.log.of_entity(SOURCE, "a", START, mine[-1].place, 2, newest_first=True)
    assert latest == [mine[3], mine[2]]


async def test_entities_with_the_same_tag_are_told_apart(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket and a tag are only hints: what counts is what the event says."""
    monkeypatch.setattr(Keys, "timeline", lambda *_: ("{relay}:tl:0", "0000"))
    await _mint(store, *["a", "b"] * 30)
    assert [one.entity_id for one in await _of(store, "b", count=7)] == ["b"] * 7
    assert len(await _of(store, "a")) == 30


async def test_retention_removes_places_with_their_events(store: Store, redis_client: Redis) -> None:
    """Exactly as many as events; nothing is left behind of an entity that has none any more."""
    await _mint(store, "a", "b", "a")
    end = await store.log.end()
    while await store.deliveries.now_ms() <= end.ms:
        pass
    await _mint(store, "a", "d", first=10)
    assert await store.log.trim(end.ms + 1) == 3
    assert [one.entity_id for one in await _of(store, "a")] == ["a"]
    assert await _of(store, "b") == []
    listed = [await redis_client.llen(key) async for key in redis_client.scan_iter(KEYS)]
    assert sum(listed) == 2
    await store.log.trim((await store.log.end()).ms + 1)
    assert [key async for key in redis_client.scan_iter(KEYS)] == []


async def test_the_relays_own_events_have_a_timeline(store: Store) -> None:
    """What is told of a subscriber is found by its id."""
    subscriber = Subscriber(id="sub_a", url="http://127.0.0.1/a")
    await store.registry.create(subscriber)
    failing, told = change_state(subscriber, State(status="failing"), NOW, enabled=True)
    await store.registry.replace(subscriber, failing, told)
    (entry,) = await store.log.of_entity("relay", "sub_a", START, await store.log.end(), 10)
    assert told is not None
    assert entry.event_id == told.id
