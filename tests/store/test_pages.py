"""Pages of what waits and of what is dead: in order and without a gap, however many share one score."""

from redis.asyncio import Redis

from relay.core.log import BEHIND_MS, SHELVED_MS, Place, Waiting
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.keys import Keys, shard_of

AT_MS = 1_700_000_000_000
MANY = 5000


async def fill(store: Store, name: str, due: dict[int, int]) -> list[tuple[int, bytes]]:
    """Put retries of a subscriber into the store: number of the event → due ms; as they stand, in order."""
    members = {str(Waiting(name, Place(AT_MS, number), 1)): at for number, at in due.items()}
    await store.client.zadd(Keys().retries(shard_of(name)), members)
    return sorted((at, member.encode()) for member, at in members.items())


async def walk(store: Store, shards: list[int], count: int) -> list[tuple[int, bytes]]:
    """Everything that waits, page by page; of each page the last one has gone or was put off when the next is read."""
    found: list[tuple[int, bytes]] = []
    after = (0, "")
    while batch := await store.deliveries.waiting_after(shards, after, count):
        found += [(due, str(one).encode()) for due, one in batch]
        after = (batch[-1][0], str(batch[-1][1]))
        key, member = Keys().retries(shard_of(batch[-1][1].subscriber_id)), after[1]
        if len(found) % 2:
            await store.client.zrem(key, member)
        else:
            await store.client.zadd(key, {member: 1})
    return found


async def test_pages_of_what_waits_are_whole_and_in_order(redis_client: Redis) -> None:
    """Of one score and of several, of one shard and of several: each once, though what was shown last is gone."""
    store = Store(redis_client)
    names = ["a", next(one for one in map(str, range(99)) if shard_of(one) != shard_of("a"))]
    due = {number: SHELVED_MS if number % 3 else BEHIND_MS for number in range(40)} | dict.fromkeys((40, 41), AT_MS)
    expected = sorted([*await fill(store, names[0], due), *await fill(store, names[1], due)])
    assert await walk(store, [shard_of(one) for one in names], 7) == expected
    await redis_client.flushall()
    expected = await fill(store, "a", due)
    assert await walk(store, [shard_of("a")], 1) == expected


async def test_a_page_of_a_long_shelf_reads_no_more_than_itself(redis_client: Redis) -> None:
    """Thousands that share one score cost a page of ten next to nothing, at the beginning as at the end."""
    store = Store(redis_client)
    shelf = await fill(store, "a", dict.fromkeys(range(MANY), SHELVED_MS))
    await redis_client.zadd(Keys().dead("a"), {str(Place(AT_MS, number)): AT_MS for number in range(MANY)})
    dead = sorted((str(Place(AT_MS, number)) for number in range(MANY)), reverse=True)
    await store.deliveries.waiting_after([0], (0, ""), 1)  # the script is known to the server now
    sent = (await redis_client.info("stats"))["total_net_output_bytes"]
    for at in (0, MANY // 2, MANY - 11):
        last = shelf[at][1].decode()
        page = await store.deliveries.waiting_after([shard_of("a")], (SHELVED_MS, last), 10)
        assert [str(one).encode() for _, one in page] == [member for _, member in shelf[at + 1 : at + 11]]
        letters = await store.deliveries.dead_before(["a"], (AT_MS, "a", dead[at]), 10)
        assert [str(place) for _, _, place in letters] == dead[at + 1 : at + 11]
    assert (await redis_client.info("stats"))["total_net_output_bytes"] - sent < 30_000


async def test_pages_of_dead_letters_are_whole_and_in_order(redis_client: Redis) -> None:
    """Those that died in one millisecond follow each other subscriber by subscriber, and none is left out."""
    store = Store(redis_client)
    names = ["a", "b", "c"]
    expected = []
    for name in names:
        await store.registry.create(Subscriber(id=name, url="http://127.0.0.1:9"))
        letters = {str(Place(AT_MS, number)): AT_MS + number % 2 for number in range(12)}
        await redis_client.zadd(Keys().dead(name), letters)
        expected += [(at, name, place) for place, at in letters.items()]
    for count in (1, 5, 100):
        found: list[tuple[int, str, str]] = []
        before = None
        while page := await store.deliveries.dead_before(names, before, count):
            found += [(at, name, str(place)) for at, name, place in page]
            before = found[-1]
        assert found == sorted(expected, reverse=True), count
