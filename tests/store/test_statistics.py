"""Counters are written with what they count: once, in the same step, and not for ever."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from relay.core.log import Attempt
from relay.core.notice import change_state
from relay.core.subscriber import State, Subscriber
from relay.store import Store
from relay.store.deliveries import Group
from relay.store.keys import Keys, shard_of
from relay.store.snapshots import FencedError
from relay.store.statistics import HOUR_S, MINUTE_S
from tests.store.minting import SOURCE, Minter, event, first_sights

SHARD = shard_of("a")
GROUP = Group(
    attempts=[
        Attempt("a", "1000-1", "evt_1", "lab.completed", 1, 1000, 2, "status", 500, "retry", 7, "", b""),
        Attempt("a", "1000-1", "evt_1", "lab.completed", 2, 1000, 3, "delivered", 200, "delivered", None, "", b""),
    ]
)
COUNTED = Counter({"a:status:retry": 1, "a:delivered:delivered": 1, "d:2": 1, "d:3": 1, "l:3": 1})


@pytest.fixture
def store(redis_client: Redis) -> Store:
    """Provide an empty store."""
    return Store(redis_client)


async def counted(store: Store, grain_s: int = MINUTE_S) -> Counter[str]:
    """All counters of the last hour and a bit."""
    now_s = await store.deliveries.now_ms() // 1000
    steps = await store.statistics.read(now_s - HOUR_S - MINUTE_S, now_s + 1, grain_s)
    return sum(steps.values(), Counter())


@pytest.mark.parametrize("grain_s", [MINUTE_S, HOUR_S])
async def test_a_commit_counts_its_attempts_once(store: Store, grain_s: int) -> None:
    """By minute and by hour; a repeat of the same commit adds nothing, the next one does."""
    held = await store.leases.tick("a", "deliver", (), [SHARD], ttl_ms=60_000)
    token = held.tokens[f"shard.{SHARD}"]
    for _ in range(2):
        await store.deliveries.commit(SHARD, token, 1, GROUP, 0)
    assert await counted(store, grain_s) == COUNTED
    await store.deliveries.commit(SHARD, token, 2, GROUP, 0)
    assert await counted(store, grain_s) == COUNTED + COUNTED


async def test_a_refused_commit_counts_nothing(store: Store) -> None:
    """A stale token changes no counter."""
    held = await store.leases.tick("a", "deliver", (), [SHARD], ttl_ms=60_000)
    with pytest.raises(FencedError):
        await store.deliveries.commit(SHARD, held.tokens[f"shard.{SHARD}"] - 1, 1, GROUP, 0)
    assert await counted(store) == Counter()


async def test_a_mint_counts_its_events_once(store: Store) -> None:
    """By source; what a repeated mint finds done already is not counted again."""
    await Minter(store).mint(3)
    assert await counted(store) == Counter({f"e:{SOURCE}": 3})
    token, _ = await store.snapshots.fence(SOURCE)
    changes = [(SOURCE, one) for one in first_sights([event(0), event(1), event(2)])]
    again = await store.snapshots.mint(SOURCE, token, 2, changes)
    assert (again.applied, again.already) == (0, 3)
    assert await counted(store) == Counter({f"e:{SOURCE}": 3})


async def test_the_relays_own_events_count(store: Store, redis_client: Redis) -> None:
    """What tells of a subscriber's change enters the log by another script, and is counted there."""
    old = Subscriber(id="sub_a", url="http://127.0.0.1/a")
    await store.registry.create(old)
    failing = State(status="failing", reason="HTTP 500", failing_since="2026-11-21T17:00:00.000Z")
    seconds, _ = await redis_client.time()
    new, told = change_state(old, failing, datetime.fromtimestamp(seconds, UTC), enabled=True)
    assert told is not None
    await store.registry.replace(old, new, told)
    assert await counted(store) == Counter({"e:relay": 1})


async def test_counters_expire(store: Store, redis_client: Redis) -> None:
    """Minutes a little after a day, hours after eight days: the statistics never grow beyond that."""
    await Minter(store).mint(1)
    seconds, _ = await redis_client.time()
    keys = Keys()
    assert 24 * HOUR_S < await redis_client.ttl(keys.minutes(seconds // HOUR_S)) <= 25 * HOUR_S
    assert 7 * 24 * HOUR_S < await redis_client.ttl(keys.hours(seconds // HOUR_S // 24)) <= 8 * 24 * HOUR_S


async def test_a_counter_that_cannot_be_written_stops_no_delivery(store: Store, redis_client: Redis) -> None:
    """Whatever stands in the counters' place, attempts are settled."""
    seconds, _ = await redis_client.time()
    for minute in (seconds, seconds + MINUTE_S):
        await redis_client.set(Keys().minutes(minute // HOUR_S), "not a hash")
    held = await store.leases.tick("a", "deliver", (), [SHARD], ttl_ms=60_000)
    await store.deliveries.commit(SHARD, held.tokens[f"shard.{SHARD}"], 1, GROUP, 0)
    assert len(await store.deliveries.attempts(SHARD)) == 1
    assert await counted(store, HOUR_S) == COUNTED
