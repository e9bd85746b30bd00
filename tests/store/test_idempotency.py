"""BEGIN and FINISH: one try at a time, taken over when nobody holds on to it."""

import pytest
from redis.asyncio import Redis

from relay.store import Store
from relay.store.idempotency import SALT_BYTES, Begin, IdempotencyStore
from relay.store.keys import Keys

HOLD_MS, TTL_MS = 10_000, 86_400_000


@pytest.fixture
def store(redis_client: Redis) -> IdempotencyStore:
    """Provide an empty store."""
    return Store(redis_client).idempotency


async def begin(store: IdempotencyStore, owner: str, now_ms: int, fingerprint: str = "f") -> Begin:
    """Begin at a time; the salt is left out."""
    begun = await store.begin("r", fingerprint, owner, hold_ms=HOLD_MS, ttl_ms=TTL_MS, now_ms=now_ms)
    return begun._replace(salt="")


async def test_one_try_at_a_time(store: IdempotencyStore) -> None:
    """The first has it until its hold ends; then the next one takes over, with the first one's seed."""
    assert await begin(store, "one", 0) == Begin("begun", seed="one")
    assert await begin(store, "two", 1) == Begin("under way")
    assert await begin(store, "two", HOLD_MS) == Begin("begun", seed="one")
    assert await begin(store, "one", HOLD_MS + 1) == Begin("under way")


async def test_a_hold_that_is_renewed_lasts(store: IdempotencyStore) -> None:
    """Each renewal counts from its own time; who was taken over holds nothing."""
    await begin(store, "one", 0)
    assert await store.hold("r", "one", HOLD_MS, now_ms=9_000)
    assert await begin(store, "two", 18_999) == Begin("under way")
    assert (await begin(store, "two", 19_000)).kind == "begun"
    assert not await store.hold("r", "one", HOLD_MS, now_ms=19_001)


async def test_a_late_answer_does_not_replace_the_successors(store: IdempotencyStore) -> None:
    """Only the owner finishes."""
    await begin(store, "one", 0)
    await begin(store, "two", HOLD_MS)
    assert not await store.keep("r", "one", "late")
    assert not await store.refuse("r", "one")
    assert await store.keep("r", "two", "good")
    assert await begin(store, "three", HOLD_MS) == Begin("answered", answer="good")


async def test_another_body_is_told_apart(store: IdempotencyStore) -> None:
    """Under way or answered, the fingerprint must be the same."""
    await begin(store, "one", 0)
    assert (await begin(store, "two", 1, "g")).kind == "other"
    await store.keep("r", "one", "a")
    assert (await begin(store, "two", 2, "g")).kind == "other"


async def test_a_refusal_frees_the_key_unless_an_earlier_try_may_have_changed_something(
    store: IdempotencyStore,
) -> None:
    """After a first try nothing is left; after a failure the seed is, and the next one begins at once."""
    await begin(store, "one", 0)
    await store.refuse("r", "one")
    assert await begin(store, "two", 1, "g") == Begin("begun", seed="two")
    await store.fail("r", "two")
    assert await begin(store, "three", 2, "g") == Begin("begun", seed="two")
    await store.refuse("r", "three")
    assert await begin(store, "four", 3, "g") == Begin("begun", seed="two")
    assert (await begin(store, "five", 3, "h")).kind == "other"


async def test_a_repeat_is_harmless(store: IdempotencyStore) -> None:
    """Each command may be sent again after a lost answer."""
    assert [await begin(store, "one", 0) for _ in range(2)] == [Begin("begun", seed="one")] * 2
    assert [await store.keep("r", "one", "a") for _ in range(2)] == [True, True]
    await store.refuse("r", "nobody")
    assert (await begin(store, "two", 1)).answer == "a"


async def test_one_salt_until_it_is_forgotten(redis_client: Redis) -> None:
    """Whoever begins, and whoever repeats, is given the same; after an erasure there is another."""
    store = Store(redis_client)
    salts = []
    for record in ("a", "b"):
        begun = await store.idempotency.begin(record, "f", "o", hold_ms=HOLD_MS, ttl_ms=TTL_MS)
        await store.idempotency.keep(record, "o", "answer")
        again = await store.idempotency.begin(record, "f", "p", hold_ms=HOLD_MS, ttl_ms=TTL_MS)
        assert (again.kind, begun.salt) == ("answered", again.salt)
        salts.append(begun.salt)
    assert salts[0] == salts[1]
    assert len(salts[0]) == 2 * SALT_BYTES
    await store.erasure.forget_answers()
    again = await store.idempotency.begin("a", "f", "p", hold_ms=HOLD_MS, ttl_ms=TTL_MS)
    assert (again.kind, again.salt != salts[0], len(again.salt)) == ("answered", True, 2 * SALT_BYTES)


async def test_when_memory_is_full_the_answer_is_left_out(store: IdempotencyStore, redis_client: Redis) -> None:
    """That the request was carried out is noted all the same; a late answer changes nothing then either."""
    await begin(store, "one", 0)
    await redis_client.config_set("maxmemory", 1)
    try:
        assert not await store.keep("r", "one", "x" * 1000)
        assert await begin(store, "two", HOLD_MS) == Begin("answered")
        assert not await store.keep("r", "two", "x")
    finally:
        await redis_client.config_set("maxmemory", 0)
    assert await begin(store, "two", HOLD_MS) == Begin("answered")


async def test_a_record_lives_from_its_first_try_on(store: IdempotencyStore, redis_client: Redis) -> None:
    """Nothing lengthens it; after its end nothing is brought back without a time to live."""
    key = Keys().idempotency("r")
    await begin(store, "one", 0)
    await redis_client.pexpire(key, 1_000)
    await begin(store, "two", HOLD_MS)
    await store.hold("r", "two", HOLD_MS)
    await store.keep("r", "two", "a")
    assert 0 < await redis_client.pttl(key) <= 1_000
    await redis_client.delete(key)
    assert not await store.keep("r", "two", "a")
    assert not await redis_client.exists(key)
