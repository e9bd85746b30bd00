"""MINT: a snapshot and the events that tell of it change together, once, and only by the holder."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from relay.core.log import START, Entry
from relay.store import Store
from relay.store.connect import connect
from relay.store.keys import Keys
from relay.store.snapshots import FencedError, LostTailError
from tests.helpers import ValkeyProcess
from tests.store.minting import SOURCE, change, event

TOKEN = 10


@pytest.fixture
def store(redis_client: Redis) -> Store:
    """Provide an empty store."""
    return Store(redis_client)


async def entries(store: Store) -> list[Entry]:
    """Everything in the log."""
    return await store.log.after(START, await store.log.end(), 1000)


async def everything(client: Redis) -> dict[Any, bytes | None]:
    """Every key with its content, as the server would move it."""
    return {key: await client.dump(key) for key in await client.keys("*")}


async def test_a_change_and_its_events_are_written_together(store: Store) -> None:
    """Commit, then enqueue, without an outbox (seen in several).

    Several events of one change stand in the log in their order, and the snapshot is the new one.
    """
    one, two = event(1, "lab.scored"), event(2, "lab.completed")
    minted = await store.snapshots.mint(SOURCE, TOKEN, 1, [(SOURCE, change("e", b"", b"new", one, two))])
    assert (minted.applied, minted.already, minted.conflicts) == (1, 0, ())
    assert await store.snapshots.load(SOURCE) == {"e": b"new"}
    assert [entry.event_id for entry in await entries(store)] == [one.id, two.id]
    assert [entry.payload for entry in await entries(store)] == [one.payload, two.payload]


async def test_the_index_points_at_the_event(store: Store) -> None:
    """An event is found by its id."""
    one = event(1)
    await store.snapshots.mint(SOURCE, TOKEN, 1, [(SOURCE, change("e", b"", b"1", one))])
    found = await store.log.find(one.id)
    assert found is not None
    assert (found.event_id, found.event_type, found.source) == (one.id, one.type, SOURCE)
    assert await store.log.find("evt_unknown") is None


async def test_private_fields_are_kept_apart(store: Store) -> None:
    """What only some subscribers may see stands beside the payload, not in it."""
    await store.snapshots.mint(
        SOURCE, TOKEN, 1, [(SOURCE, change("e", b"", b"1", event(1, private=b'{"IpAddress":"192.0.2.1"}'), event(2)))]
    )
    with_private, without = await entries(store)
    assert with_private.private == b'{"IpAddress":"192.0.2.1"}'
    assert b"192.0.2.1" not in with_private.payload
    assert without.private == b""


async def test_a_repeat_is_recognised_as_done(store: Store) -> None:
    """Minting the same again, after a lost answer, writes no second event."""
    batch = [(SOURCE, change("e", b"", b"1", event(1)))]
    await store.snapshots.mint(SOURCE, TOKEN, 1, batch)
    minted = await store.snapshots.mint(SOURCE, TOKEN, 1, batch)
    assert (minted.applied, minted.already) == (0, 1)
    assert len(await entries(store)) == 1


async def test_a_conflict_names_the_entity_and_skips_the_meta_fields(store: Store) -> None:
    """An entity that stands elsewhere is left alone and named; the others are written, the watermark is not."""
    await store.snapshots.mint(SOURCE, TOKEN, 1, [(SOURCE, change("e", b"", b"other"))])
    batch = [(SOURCE, change("e", b"1", b"2", event(1))), (SOURCE, change("f", b"", b"1", event(2)))]
    minted = await store.snapshots.mint(SOURCE, TOKEN, 2, batch, {"wm:lod": "later"})
    assert (minted.applied, minted.conflicts) == (1, ("e",))
    assert await store.snapshots.load(SOURCE) == {"e": b"other", "f": b"1"}
    assert [entry.event_id for entry in await entries(store)] == [event(2).id]
    assert await store.snapshots.meta("wm:lod") == [None]


async def test_meta_fields_are_written_with_the_changes(store: Store) -> None:
    """Without a conflict the watermark moves in the same step."""
    await store.snapshots.mint(SOURCE, TOKEN, 1, (), {"wm:lod": "1", "status:lod": "ok"})
    assert await store.snapshots.meta("wm:lod", "status:lod", "none") == ["1", "ok", None]


async def test_two_changes_of_one_entity_in_a_batch_follow_each_other(store: Store) -> None:
    """The second one sees what the first one wrote."""
    batch = [(SOURCE, change("e", b"", b"1", event(1))), (SOURCE, change("e", b"1", b"2", event(2)))]
    minted = await store.snapshots.mint(SOURCE, TOKEN, 1, batch)
    assert (minted.applied, minted.conflicts) == (2, ())
    assert await store.snapshots.load(SOURCE) == {"e": b"2"}


async def test_a_snapshot_can_be_removed(store: Store) -> None:
    """An empty new snapshot removes the entity, if it is the one that was expected."""
    await store.snapshots.mint(SOURCE, TOKEN, 1, [(SOURCE, change("e", b"", b"1")), (SOURCE, change("f", b"", b"1"))])
    gone = await store.snapshots.mint(
        SOURCE, TOKEN, 2, [(SOURCE, change("e", b"1", b"")), (SOURCE, change("f", b"0", b""))]
    )
    assert (gone.applied, gone.conflicts) == (1, ("f",))
    assert await store.snapshots.load(SOURCE) == {"f": b"1"}


@pytest.mark.parametrize(("token", "observation"), [(TOKEN - 1, 9), (TOKEN, 4)])
async def test_a_stale_token_or_observation_is_fenced(
    store: Store, redis_client: Redis, token: int, observation: int
) -> None:
    """Whoever was taken over, or looks back at an older observation, changes nothing at all."""
    await store.snapshots.mint(SOURCE, TOKEN, 5, ())
    before = await everything(redis_client)
    with pytest.raises(FencedError):
        await store.snapshots.mint(SOURCE, token, observation, [(SOURCE, change("e", b"", b"1", event(1)))], {"a": "b"})
    assert await everything(redis_client) == before


@pytest.mark.parametrize("fence", [None, b"9:7", b"10:4"])
async def test_a_store_that_lost_its_tail_is_noticed(store: Store, redis_client: Redis, fence: bytes | None) -> None:
    """A fence behind what was confirmed to this holder says that the store forgot something: nothing is written."""
    if fence:
        await redis_client.set(Keys().fence(SOURCE), fence)
    before = await everything(redis_client)
    with pytest.raises(LostTailError):
        await store.snapshots.mint(SOURCE, TOKEN, 6, [(SOURCE, change("e", b"", b"1", event(1)))], last=5)
    assert await everything(redis_client) == before


@pytest.mark.parametrize("observation", [5, 6])
async def test_a_fence_where_it_was_left_lets_the_holder_go_on(store: Store, observation: int) -> None:
    """The next mint passes, and so does its repeat."""
    await store.snapshots.mint(SOURCE, TOKEN, observation, ())
    await store.snapshots.mint(SOURCE, TOKEN, 6, [(SOURCE, change("e", b"", b"1"))], last=5)
    assert await store.snapshots.fence(SOURCE) == (TOKEN, 6)


WRONG_TYPES = {
    "state": Keys().state(SOURCE, "f"),
    "index": Keys().index(event(2).id),
    "log": Keys().log,
    "meta": Keys().meta,
}


@pytest.mark.parametrize("name", WRONG_TYPES)
async def test_nothing_is_half_written_when_a_key_cannot_take_it(store: Store, redis_client: Redis, name: str) -> None:
    """Whichever key turns out to be unusable, no other has been touched."""
    await redis_client.set(WRONG_TYPES[name], "in the way")
    before = await everything(redis_client)
    batch = [(SOURCE, change("e", b"", b"1", event(1))), (SOURCE, change("f", b"", b"1", event(2)))]
    with pytest.raises(ResponseError):
        await store.snapshots.mint(SOURCE, TOKEN, 1, batch, {"wm:lod": "1"})
    assert await everything(redis_client) == before


@pytest.mark.parametrize("spoil", [lambda a: a[:-1], lambda a: [*a, "more"], lambda a: [*a[:4], 99, *a[5:]]])
async def test_nothing_is_half_written_when_arguments_are_wrong(
    store: Store, redis_client: Redis, spoil: "type[list[object]]"
) -> None:
    """Too few, too many, or a key that does not exist: refused as a whole."""
    keys = [Keys().fence(SOURCE), Keys().log, Keys().meta, Keys().state(SOURCE, "e")]
    good = [TOKEN, 1, "", 2, 4, "e", "", "1", 0, 4, "e2", "", "1", 0, 1, "wm:lod", "1"]
    with pytest.raises(ResponseError):
        await store.snapshots._scripts.mint(keys, spoil(good))
    assert await everything(redis_client) == {}


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Redis]:
    """Provide a client of a server whose memory the test may fill."""
    server = ValkeyProcess(tmp_path / "m")
    try:
        server.wait_ready()
        async with connect(server.url) as client:
            yield client
    finally:
        server.kill()


async def test_a_full_memory_refuses_a_mint_as_a_whole(small: Redis) -> None:
    """State and log stay as they were; once there is room again the same mint applies."""
    store = Store(small)
    await store.snapshots.mint(SOURCE, TOKEN, 1, [(SOURCE, change("e", b"", b"1", event(1)))])
    before = await everything(small)
    await small.config_set("maxmemory", 1)
    batch = [(SOURCE, change("e", b"1", b"2", event(2)))]
    with pytest.raises(OutOfMemoryError):
        await store.snapshots.mint(SOURCE, TOKEN, 2, batch, {"wm:lod": "2"})
    assert await everything(small) == before
    await small.config_set("maxmemory", 0)
    assert (await store.snapshots.mint(SOURCE, TOKEN, 2, batch, {"wm:lod": "2"})).applied == 1
