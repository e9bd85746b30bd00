"""The record of attempts written anew in portions: nothing is lost, nothing comes back, and nobody waits for it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import pytest
from redis.asyncio import Redis

from relay.core.log import Attempt, Place
from relay.store import Store
from relay.store.deliveries import Group
from relay.store.keys import SHARDS, Keys
from relay.store.rewrite import MovedError, Rewrite
from tests.helpers import wait_until

SHARD = 3
GROUPS, PORTION = 300, 20
KEY = Keys().attempts(SHARD)

Step = Callable[[int], Awaitable[None]]


def attempt(place: Place) -> Attempt:
    """An attempt that was answered with something."""
    return Attempt("a", str(place), "evt_x", "lab.completed", 1, 1, 1, "status", 500, "retry", None, "", b"answer")


class Record:
    """The attempts of one shard."""

    def __init__(self, store: Store, token: int) -> None:
        self.store = store
        self._token = token
        self._commits = 0

    async def add(self, *places: Place) -> None:
        """Commit an attempt at each of these events, in a group of its own, together with one at another event."""
        for place in places:
            self._commits += 1
            group = Group(attempts=[attempt(place), attempt(Place(1, 1))])
            await self.store.deliveries.commit(SHARD, self._token, self._commits, group, 0)

    async def places(self) -> list[str]:
        """Where the groups stand."""
        return [at for at, _ in await self.store.deliveries.attempts(SHARD, count=10 * GROUPS)]

    async def emptied(self) -> set[Place]:
        """The events of which the answers are gone."""
        groups = await self.store.deliveries.attempts(SHARD, count=10 * GROUPS)
        return {Place.parse(one.place) for _, group in groups for one in group if not one.body}


@pytest.fixture
async def record(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Provide a record of some hundred groups, of which few are copied at a time."""
    monkeypatch.setattr("relay.store.rewrite.PORTION", PORTION)
    store = Store(redis_client)
    held = await store.leases.tick("t", "deliver", (), range(SHARDS), ttl_ms=60_000)
    pipe = redis_client.pipeline(transaction=False)
    for place in ALL:
        pipe.xadd(KEY, {"a": msgspec.msgpack.encode([attempt(place), attempt(Place(1, 1))])})
    await pipe.execute()
    return Record(store, held.tokens[f"shard.{SHARD}"])


ALL = [Place(1000, number) for number in range(GROUPS)]
GONE, OTHERS = {ALL[0], ALL[150], ALL[-1]}, {ALL[0], ALL[77], ALL[-2]}


def between(monkeypatch: pytest.MonkeyPatch, step: Step) -> list[int]:
    """Do something before each portion; how many entries each was to copy."""
    copy, counts = Rewrite._copy, list[int]()

    async def stepped(self: Rewrite, reach: str, changed: Mapping[str, bytes], count: int) -> bool:
        counts.append(count)
        await step(len(counts))
        return await copy(self, reach, changed, count)

    monkeypatch.setattr(Rewrite, "_copy", stepped)
    return counts


async def leftovers(client: Redis) -> list[bytes]:
    """Keys beside the record itself."""
    return [key async for key in client.scan_iter(f"{KEY}:*")]


async def test_what_is_appended_meanwhile_stays_and_what_is_trimmed_stays_away(
    record: Record, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every portion is small; the record is whole before, between and after them, and says what it has forgotten."""
    new = [Place(2000, number) for number in range(1000)]
    known = await record.places()

    async def go_on(number: int) -> None:
        await record.add(*new[3 * number : 3 * number + 3])
        await redis_client.xtrim(KEY, minid=known[-2 * number], approximate=False)
        assert await record.emptied() == set()

    counts = between(monkeypatch, go_on)
    assert sorted(await record.store.erasure.clear_attempts(SHARD, GONE)) == sorted(GONE - {ALL[0]})
    assert await record.emptied() == GONE - {ALL[0]}
    assert max(counts) == PORTION
    assert len(counts) >= GROUPS // PORTION
    rest = list(reversed(await record.places()))
    assert len(rest) == GROUPS + 3 * len(counts) - 2 * len(counts) + 1
    assert rest[0] == known[-2 * len(counts)]
    info = await redis_client.xinfo_stream(KEY)
    assert (info["length"], info["entries-added"]) == (len(rest), GROUPS + 3 * len(counts))
    assert await record.store.deliveries.forgotten_ms(SHARD) == Place.parse(rest[0]).ms
    assert await leftovers(redis_client) == []
    assert await redis_client.ttl(KEY) == -1


async def test_two_erasures_at_a_time_undo_nothing_of_each_other(
    record: Record, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One waits for the other, and then goes on from what that has left."""
    writer = Rewrite(redis_client, KEY, flags=True)
    await writer.begin()
    with pytest.raises(MovedError):
        await Rewrite(redis_client, KEY, flags=True).begin()
    await writer.go_on("+", {})
    monkeypatch.setattr("relay.store.erasure.BUSY_S", 0.01)
    known = await record.places()
    one, other = Store(redis_client).erasure, Store(redis_client).erasure
    cleared = await asyncio.gather(one.clear_attempts(SHARD, GONE), other.clear_attempts(SHARD, OTHERS))
    assert sorted(cleared[0] + cleared[1]) == sorted(GONE | OTHERS)
    assert await record.emptied() == GONE | OTHERS
    assert await record.places() == known


async def test_who_was_taken_over_begins_again(
    record: Record, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was paused for so long that another went through has copied what is no longer true."""
    monkeypatch.setattr("relay.store.erasure.BUSY_S", 0.01)
    known, overtaken = await record.places(), False

    async def take_over(number: int) -> None:
        nonlocal overtaken
        if number == 8 and not overtaken:
            overtaken = True
            await redis_client.delete(f"{KEY}:writer")
            assert set(await Store(redis_client).erasure.clear_attempts(SHARD, OTHERS)) == OTHERS

    between(monkeypatch, take_over)
    assert set(await record.store.erasure.clear_attempts(SHARD, GONE)) == GONE - OTHERS
    assert overtaken
    assert await record.emptied() == GONE | OTHERS
    assert await record.places() == known


@pytest.mark.parametrize("when", range(1, 18, 4))
async def test_one_that_dies_leaves_the_record_as_it_was(
    record: Record, redis_client: Redis, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    """What it has copied goes by itself; the next one is held up for no longer than that."""
    monkeypatch.setattr("relay.store.rewrite.LEFT_MS", 100)
    monkeypatch.setattr("relay.store.erasure.BUSY_S", 0.01)
    known = await record.places()

    async def die(number: int) -> None:
        if number == when:
            raise ConnectionError

    with monkeypatch.context() as patched:
        between(patched, die)
        with pytest.raises(ConnectionError):
            await record.store.erasure.clear_attempts(SHARD, GONE)
    assert (await record.places(), await record.emptied()) == (known, set())

    async def is_clean() -> bool:
        return await leftovers(redis_client) == []

    await wait_until(is_clean)
    assert set(await record.store.erasure.clear_attempts(SHARD, GONE)) == GONE
    assert (await record.places(), await record.emptied()) == (known, GONE)


async def test_a_copy_of_which_the_store_has_lost_some_is_not_used(record: Record, redis_client: Redis) -> None:
    """After a failover it would have a hole; the same if it is gone altogether, or was written by a former version."""
    for spoil in ("xtrim", "delete"):
        rewrite = Rewrite(redis_client, KEY, flags=True)
        await rewrite.begin()
        await rewrite._copy("+", {}, PORTION)
        if spoil == "xtrim":
            await redis_client.xdel(f"{KEY}:copy", rewrite._at)
        else:
            await redis_client.delete(f"{KEY}:copy")
        with pytest.raises(MovedError):
            await rewrite.go_on("+", {})
        await redis_client.delete(f"{KEY}:writer")
    assert len(await record.places()) == GROUPS


async def test_a_record_that_was_trimmed_to_nothing_meanwhile_stays_empty(
    record: Record, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has outlived its retention does not come back."""

    async def forget(number: int) -> None:
        if number == 5:
            await redis_client.xtrim(KEY, maxlen=0, approximate=False)

    between(monkeypatch, forget)
    await record.store.erasure.clear_attempts(SHARD, GONE)
    assert (await record.places(), await leftovers(redis_client)) == ([], [])
    assert await record.store.deliveries.forgotten_ms(SHARD) > 0
    await record.add(ALL[0])
    assert len(await record.places()) == 1
