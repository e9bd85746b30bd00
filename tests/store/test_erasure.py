"""What an erasure writes: beside the holders of sources and shards, and without disturbing any."""

from redis.asyncio import Redis

from relay.core.log import Attempt, Place
from relay.store import Store
from relay.store.deliveries import Group
from relay.store.keys import SHARDS, Keys
from tests.store.minting import SOURCE, Minter, change


def attempt(place: Place, no: int) -> Attempt:
    """An attempt that was answered with something."""
    return Attempt("a", str(place), "evt_x", "lab.completed", no, 1, 1, "status", 500, "retry", None, "", b"answer")


async def test_a_snapshot_is_changed_only_if_it_is_the_one_that_was_read(redis_client: Redis) -> None:
    """What the holder of the source has written meanwhile stays, and its next mint of a changed one is in conflict."""
    store = Store(redis_client)
    for name in ("1", "2"):
        await store.snapshots.mint(SOURCE, 10, 1, [(SOURCE, change(name, b"", b"old"))])
    await store.snapshots.mint(SOURCE, 10, 2, [(SOURCE, change("2", b"old", b"newer"))])
    assert await store.erasure.swap(SOURCE, [("1", b"old", b"veiled"), ("2", b"old", b"veiled")]) == 1
    assert await store.snapshots.load(SOURCE) == {"1": b"veiled", "2": b"newer"}
    minted = await store.snapshots.mint(SOURCE, 10, 3, [(SOURCE, change("1", b"old", b"next"))])
    assert minted.conflicts == ("1",)
    assert await store.erasure.swap(SOURCE, []) == 0


async def test_attempts_keep_their_places_when_answers_are_emptied(redis_client: Redis) -> None:
    """The record is written anew: the same groups at the same places, and what has been trimmed is still known."""
    store, shard = Store(redis_client), 3
    held = await store.leases.tick("t", "deliver", (), range(SHARDS), ttl_ms=60_000)
    places = [Place(1000, number) for number in range(1200)]
    for number, place in enumerate(places):
        group = Group(attempts=[attempt(place, 1), attempt(Place(1, 1), 2)])
        await store.deliveries.commit(shard, held.tokens[f"shard.{shard}"], number, group, 0)
    key = Keys().attempts(shard)
    await redis_client.xtrim(key, maxlen=1100, approximate=False)
    before, known = await store.deliveries.attempts(shard, count=5000), await redis_client.xinfo_stream(key)
    cleared = await store.erasure.clear_attempts(shard, set(places[600:602]))
    assert sorted(cleared) == places[600:602]
    after, info = await store.deliveries.attempts(shard, count=5000), await redis_client.xinfo_stream(key)
    assert [place for place, _ in after] == [place for place, _ in before]
    assert sum(not one.body for _, group in after for one in group) == 2
    for name in ("length", "last-generated-id", "entries-added"):
        assert info[name] == known[name], name
    assert await store.deliveries.forgotten_ms(shard) > 0


async def test_a_log_that_is_too_long_is_not_written_anew(redis_client: Redis) -> None:
    """The server would stand still meanwhile; whoever asks is told."""
    store = Store(redis_client)
    await Minter(store).mint(3)
    before = await store.log.before(None, 10)
    assert not await store.erasure.rewrite_log(2)
    assert await store.erasure.rewrite_log(3)
    assert await store.log.before(None, 10) == before
