"""REDELIVER: deliveries of any standing put among the retries, due now, in one step that may be repeated."""

from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from relay.core.log import BEHIND_MS, SHELVED_MS, Attempt, Place, Waiting
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.deliveries import Group
from relay.store.delivery_state import Order, Redelivered
from relay.store.keys import Keys, shard_of
from tests.store.minting import Minter

SHARD = shard_of("a")
FAR_MS = 4_000_000_000_000
NOW_MS = 1_700_000_000_000
"""A time that has long passed."""


@pytest.fixture
async def store(redis_client: Redis) -> Store:
    """Provide a store with subscriber `a` and five events."""
    store = Store(redis_client)
    await store.registry.create(Subscriber(id="a", url="http://127.0.0.1:9"))
    await Minter(store).mint(5)
    return store


async def places(store: Store) -> list[Place]:
    """Where the events stand."""
    return [one.place for one in reversed(await store.log.before(None, 10))]


async def commit(store: Store, group: Group) -> None:
    """Settle a group, as the holder of the shard."""
    held = await store.leases.tick("a", "deliver", (), [SHARD], ttl_ms=60_000)
    number = int(await store.client.incr("number"))
    await store.deliveries.commit(SHARD, held.tokens[f"shard.{SHARD}"], number, group, 0)


async def controls(store: Store) -> list[tuple[bytes, bytes]]:
    """What the control stream says, but for registrations."""
    messages = [fields for _, fields in await store.client.xrange(Keys().ctl)]
    return [(one[b"k"], one[b"v"]) for one in messages if one[b"k"] != b"subscriber"]


async def waiting(store: Store) -> dict[str, int]:
    """Retries with their due times."""
    return {str(one): due for one, due in await store.deliveries.waiting(SHARD, 0, 10)}


def attempt(place: Place) -> Attempt:
    """A delivered attempt."""
    return Attempt("a", str(place), "evt_1", "lab.completed", 1, 1, 2, "delivered", 200, "delivered", None, "", b"")


async def test_a_dead_letter_becomes_a_first_attempt_that_is_due(store: Store) -> None:
    """It is in one place before and in one place after, and the shard's holder is told; a repeat changes nothing."""
    place, other, *_ = await places(store)
    await commit(store, Group(dead=[("a", NOW_MS, place), ("a", NOW_MS, other)]))
    before_ms = await store.deliveries.now_ms()
    assert await store.deliveries.redeliver("a", [Order(place, "dead")]) == [Redelivered.DONE]
    assert await store.deliveries.dead("a", 0, 10) == [(other, NOW_MS)]
    due = await waiting(store)
    assert list(due) == [str(Waiting("a", place, 1))]
    assert before_ms <= due[str(Waiting("a", place, 1))] <= await store.deliveries.now_ms()
    assert await controls(store) == [(b"due", str(SHARD).encode())]
    assert await store.deliveries.redeliver("a", [Order(place, "dead")]) == [Redelivered.DUE_ALREADY]
    assert (await waiting(store), len(await controls(store))) == (due, 1)


async def test_a_repeat_after_it_went_out_sends_nothing_more(store: Store) -> None:
    """A call whose answer was lost may come again late: it asks for a round that has been already."""
    dead, delivered, *_ = await places(store)
    await commit(store, Group(dead=[("a", NOW_MS, dead)]))
    orders = [Order(dead, "dead"), Order(delivered, "settled")]
    assert await store.deliveries.redeliver("a", orders) == [Redelivered.DONE] * 2
    await commit(store, Group(done={str(Waiting("a", one, 1)) for one in (dead, delivered)}))
    assert await store.deliveries.redeliver("a", orders) == [Redelivered.CHANGED] * 2
    assert await waiting(store) == {}
    (state,) = await store.deliveries.states([("a", delivered)], 5)
    again = Order(delivered, "settled", state.asked_ms or 0)
    assert await store.deliveries.redeliver("a", [again]) == [Redelivered.DONE]


async def test_a_retry_is_due_now_with_its_number(store: Store) -> None:
    """One that is due keeps its time; one that has moved on is left to whoever reads again."""
    early, late, gone, *_ = await places(store)
    await commit(store, Group(due={str(Waiting("a", early, 2)): NOW_MS, str(Waiting("a", late, 3)): FAR_MS}))
    orders = [Order(early, "waiting", 2), Order(late, "waiting", 3), Order(gone, "waiting", 4)]
    expected = [Redelivered.DUE_ALREADY, Redelivered.DONE, Redelivered.CHANGED]
    assert await store.deliveries.redeliver("a", orders) == expected
    due = await waiting(store)
    assert due[str(Waiting("a", early, 2))] == NOW_MS
    assert due[str(Waiting("a", late, 3))] <= await store.deliveries.now_ms()
    assert len(due) == 2
    assert list(await store.deliveries.asked("a", late, 5)) == [3]


async def test_what_cannot_be_sent_is_said_and_nothing_is_written(store: Store) -> None:
    """Trimmed events stay the dead letters that they are; nobody is woken; a deleted subscriber gets nothing."""
    place, *_ = await places(store)
    trimmed = Place(NOW_MS, 7)
    await commit(store, Group(dead=[("a", NOW_MS, trimmed)]))
    assert await store.deliveries.redeliver("a", [Order(trimmed, "dead")]) == [Redelivered.TRIMMED]
    assert await store.deliveries.redeliver("b", [Order(place, "settled")]) == [Redelivered.ORPHANED]
    assert await store.deliveries.redeliver("a", [Order(place, "dead")]) == [Redelivered.CHANGED]
    assert await store.deliveries.dead("a", 0, 10) == [(trimmed, NOW_MS)]
    assert (await waiting(store), await controls(store)) == ({}, [])


async def test_an_unusable_key_leaves_everything_as_it_was(store: Store, redis_client: Redis) -> None:
    """All is read before anything is written, so nothing is half done; once mended, the same call works."""
    place, *_ = await places(store)
    await commit(store, Group(dead=[("a", NOW_MS, place)]))
    for key in (Keys().retries(SHARD), f"{Keys().attempts(SHARD)}:asked"):
        await redis_client.set(key, "in the way")
        with pytest.raises(ResponseError):
            await store.deliveries.redeliver("a", [Order(place, "dead")])
        assert await store.deliveries.dead("a", 0, 10) == [(place, NOW_MS)]
        await redis_client.delete(key)
    assert await store.deliveries.redeliver("a", [Order(place, "dead")]) == [Redelivered.DONE]


async def test_when_it_was_asked_for_is_kept_as_long_as_older_attempts(store: Store, redis_client: Redis) -> None:
    """While there are attempts that a redelivery has made history it is known; after that it costs nothing."""
    place, *_ = await places(store)
    await commit(store, Group(attempts=[attempt(place)]))
    await store.deliveries.redeliver("a", [Order(place, "settled")])
    await store.deliveries.trim_attempts([SHARD], 0)
    assert await store.deliveries.asked_each([Waiting("a", place, 1)]) != [None]
    await redis_client.xtrim(Keys().attempts(SHARD), maxlen=0)
    await store.deliveries.trim_attempts([SHARD], FAR_MS)
    assert await store.deliveries.asked_each([Waiting("a", place, 1)]) == [None]


async def test_how_far_the_record_of_attempts_reaches_is_known(store: Store, redis_client: Redis) -> None:
    """Nothing is forgotten until something is trimmed; then what is older than the rest may be missing."""
    key = Keys().attempts(SHARD)
    assert await store.deliveries.forgotten_ms(SHARD) == 0
    rows: list[Any] = ["1000-0", "2000-0", "3000-0"]
    for at in rows:
        await redis_client.xadd(key, {"a": b"\x90"}, id=at)
    assert await store.deliveries.forgotten_ms(SHARD) == 0
    await redis_client.xtrim(key, minid="2000-0", approximate=False)
    assert await store.deliveries.forgotten_ms(SHARD) == 2000
    await redis_client.xtrim(key, maxlen=0, approximate=False)
    assert await store.deliveries.forgotten_ms(SHARD) == 3001


async def test_what_waits_for_an_earlier_event_keeps_its_turn(store: Store) -> None:
    """It is not made due, whatever it is asked for as, and its dead letter goes; what is on the shelf is made due."""
    parked, dead, shelved, *_ = await places(store)
    names = [str(Waiting("a", one, 1)) for one in (parked, dead, shelved)]
    marks = dict(zip(names, (BEHIND_MS, BEHIND_MS, SHELVED_MS), strict=True))
    await commit(store, Group(due=marks, dead=[("a", NOW_MS, dead)]))
    orders = [
        Order(parked, "waiting", 1),
        Order(parked, "settled"),
        Order(dead, "dead"),
        Order(shelved, "waiting", 1),
    ]
    expected = [Redelivered.IN_TURN, Redelivered.IN_TURN, Redelivered.DONE, Redelivered.DONE]
    assert await store.deliveries.redeliver("a", orders) == expected
    due = await waiting(store)
    assert [due[one] for one in names[:2]] == [BEHIND_MS] * 2
    assert due[names[2]] <= await store.deliveries.now_ms()
    assert await store.deliveries.dead("a", 0, 10) == []
