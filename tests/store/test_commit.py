"""COMMIT: what became of a group of deliveries, in one fenced step that may be repeated."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from relay.core.log import Attempt, Place, Waiting
from relay.store import Store
from relay.store.connect import connect
from relay.store.deliveries import SHARD_CURSOR, Group, LostCommitError
from relay.store.keys import Keys, shard_of
from relay.store.snapshots import FencedError
from tests.helpers import ValkeyProcess
from tests.store.minting import SOURCE, event, first_sights

SHARD = shard_of("a")
PLACE = Place(1000, 1)
RETRY = str(Waiting("a", PLACE, 2))


def attempt(attempt_no: int = 1) -> Attempt:
    """An attempt that failed."""
    return Attempt("a", str(PLACE), "evt_1", "lab.completed", attempt_no, 1, 2, "status", 500, "retry", 7, "", b"")


async def take(store: Store, owner: str = "a", *, dead: tuple[str, ...] = ()) -> int:
    """Hold the shard; its token."""
    held = await store.leases.tick(owner, "deliver", (), [SHARD], ttl_ms=60_000, dead_owners=dead)
    return held.tokens[f"shard.{SHARD}"]


@pytest.fixture
async def store(redis_client: Redis) -> Store:
    """Provide a store with nothing in it but that there are subscribers `a` and `b`."""
    await redis_client.hset(Keys().sub, mapping={"a": "{}", "b": "{}"})
    return Store(redis_client)


def full() -> Group:
    """A group with something of everything."""
    return Group(
        cursors={"a": PLACE, SHARD_CURSOR: Place(2000, 0)},
        caught_up={"b"},
        done={str(Waiting("a", PLACE, 1))},
        due={RETRY: 5000},
        dead=[("a", 4000, PLACE), ("b", 4001, Place(1001, 0)), ("a", 4002, Place(1002, 0))],
        attempts=[attempt()],
    )


async def test_a_group_settles_everything_at_once(store: Store) -> None:
    """Cursors move or go, retries come and go, dead letters and attempts are listed."""
    token = await take(store)
    first = Group(cursors={"b": PLACE}, due={str(Waiting("a", PLACE, 1)): 1})
    await store.deliveries.commit(SHARD, token, 1, first, 0)
    await store.deliveries.commit(SHARD, token, 2, full(), 0)
    assert await store.deliveries.cursors(SHARD) == {"a": PLACE, SHARD_CURSOR: Place(2000, 0)}
    assert await store.deliveries.waiting(SHARD, 0, 10) == [(Waiting("a", PLACE, 2), 5000)]
    assert await store.deliveries.dead("a", 0, 10) == [(Place(1002, 0), 4002), (PLACE, 4000)]
    assert await store.deliveries.dead("b", 0, 10) == [(Place(1001, 0), 4001)]
    ((_, attempts),) = await store.deliveries.attempts(SHARD)
    assert attempts == [attempt()]


async def test_a_repeat_changes_nothing(store: Store) -> None:
    """The same commit number again, after a lost answer, is recognised; the next number is not."""
    token = await take(store)
    for _ in range(2):
        await store.deliveries.commit(SHARD, token, 1, full(), 0)
    assert len(await store.deliveries.attempts(SHARD)) == 1
    await store.deliveries.commit(SHARD, token, 2, full(), 0)
    assert len(await store.deliveries.attempts(SHARD)) == 2


async def test_nothing_is_listed_as_dead_of_a_subscriber_that_is_gone(store: Store, redis_client: Redis) -> None:
    """What is settled or buried after its deletion would stay for ever; of the others it is listed, once."""
    token = await take(store)
    dead = [("gone", 4000, PLACE), ("a", 4000, PLACE)]
    await store.deliveries.commit(SHARD, token, 1, Group(dead=dead), 0)
    for at_ms in (5000, 6000):
        await store.deliveries.bury("gone", [PLACE], at_ms)
        await store.deliveries.bury("a", [PLACE, Place(1001, 0)], at_ms)
    assert await store.deliveries.dead("a", 0, 10) == [(Place(1001, 0), 5000), (PLACE, 4000)]
    assert not await redis_client.exists(Keys().dead("gone"))


async def test_a_commit_that_does_not_follow_the_latest_one_is_refused(store: Store) -> None:
    """A store that has lost a commit says so, instead of going on from where it was left in memory."""
    token = await take(store)
    await store.deliveries.commit(SHARD, token, "one", Group(cursors={"a": PLACE}), 0, follows="")
    cursors, mark = await store.deliveries.take_up(SHARD)
    assert (cursors, mark) == ({"a": PLACE}, "one")
    later = Group(cursors={"a": Place(1001, 0)})
    with pytest.raises(LostCommitError):
        await store.deliveries.commit(SHARD, token, "three", later, 0, follows="two")
    assert await store.deliveries.cursors(SHARD) == {"a": PLACE}
    await store.deliveries.commit(SHARD, token, "two", later, 0, follows="one")
    assert (await store.deliveries.cursors(SHARD))["a"] == Place(1001, 0)


async def test_a_former_holder_is_fenced(store: Store) -> None:
    """Whoever has lost the shard, or never had it, writes nothing."""
    old = await take(store)
    await take(store, "b", dead=("a",))
    with pytest.raises(FencedError):
        await store.deliveries.commit(SHARD, old, 1, full(), 0)
    with pytest.raises(FencedError):
        await store.deliveries.commit((SHARD + 1) % 32, old, 1, full(), 0)
    assert await store.deliveries.cursors(SHARD) == {}
    assert await store.deliveries.attempts(SHARD) == []


async def test_a_commit_that_was_cut_short_is_not_taken_for_done(store: Store, redis_client: Redis) -> None:
    """If a key is unusable no cursor has passed the delivery, and the same commit applies once the key is mended."""
    token = await take(store)
    for key in (Keys().dead("b"), Keys().attempts(SHARD), Keys().retries(SHARD)):
        await redis_client.set(key, "in the way")
        with pytest.raises(ResponseError):
            await store.deliveries.commit(SHARD, token, 1, full(), 0)
        assert await store.deliveries.cursors(SHARD) == {}
        await redis_client.delete(key)
    await store.deliveries.commit(SHARD, token, 1, full(), 0)
    assert len(await store.deliveries.cursors(SHARD)) == 2
    assert len(await store.deliveries.dead("a", 0, 10)) == 2


async def test_due_retries_come_longest_overdue_first(store: Store) -> None:
    """Only what is due is listed, and the next one's time is known."""
    token = await take(store)
    due = {str(Waiting("a", Place(n, 0), 1)): 100 - n for n in range(5)}
    await store.deliveries.commit(SHARD, token, 1, Group(due=due), 0)
    assert [one.place.ms for one in await store.deliveries.due(SHARD, 98, 10)] == [4, 3, 2]
    assert await store.deliveries.next_due_ms([SHARD, 0 if SHARD else 1], 98) == {SHARD: 99}
    assert await store.deliveries.next_due_ms([SHARD], None) == {SHARD: 96}


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


async def test_leases_and_commits_go_on_when_memory_is_full(small: Redis) -> None:
    """Minting is refused; renewing leases, settling deliveries and the gate before a dispatch are not."""
    store = Store(small)
    token = await take(store)
    await small.config_set("maxmemory", 1)
    assert await take(store) == token
    await store.deliveries.commit(SHARD, token, 1, full(), 0)
    assert len(await store.deliveries.waiting(SHARD, 0, 10)) == 1
    assert await store.log.reach_replicas(0, 10)
    with pytest.raises(OutOfMemoryError):
        await store.snapshots.mint(SOURCE, 1, 1, [(SOURCE, one) for one in first_sights([event(1)])])
