"""Leases: what a replica may do, and until when it may trust that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import InvalidResponse
from structlog.testing import capture_logs

from relay.leases import MARGIN_S, TTL_S, Leases
from relay.store import Store
from relay.store.leases import Held
from relay.telemetry import Metrics
from tests.helpers import wait_until
from tests.service.upstreams import FakeClock

TRUST_S = TTL_S - MARGIN_S


class LeaseRig:
    """Replicas on one store, by a clock that the test moves."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.clock = FakeClock()

    def replica(self, owner: str = "a") -> Leases:
        """Build a replica that has not ticked yet."""
        return Leases(
            Store(self.client).leases,
            self.clock,
            Metrics(),
            owner=owner,
            roles="poll,deliver",
            sources=["lod"],
            shards=range(4),
        )


@pytest.fixture
def leasing(redis_client: Redis) -> LeaseRig:
    """Provide an empty store."""
    return LeaseRig(redis_client)


def shards_of(leases: Leases) -> list[int]:
    """Shards that may be worked on."""
    return [number for number in range(4) if leases.shard_token(number) is not None]


@asynccontextmanager
async def running(leases: Leases) -> AsyncIterator[None]:
    """Let the loop run; it must not have died."""
    task = asyncio.create_task(leases.run())
    yield
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_tick_gives_tokens(leasing: LeaseRig) -> None:
    """After a tick everything is held that nobody else holds, and nothing that was not asked for."""
    leases = leasing.replica()
    assert leases.source_token("lod") is None
    await leases.tick()
    assert leases.source_token("lod")
    assert shards_of(leases) == [0, 1, 2, 3]
    assert leases.shard_token(4) is leases.source_token("other") is None


async def test_trust_ends_before_the_lease_does(leasing: LeaseRig) -> None:
    """When the store is silent, trust ends a lease's time after the last renewal was *sent*, less a margin."""
    leases = leasing.replica()
    await leases.tick()
    leasing.clock.advance(TRUST_S - 0.01)
    assert leases.source_token("lod") is not None
    leasing.clock.advance(0.02)
    assert leases.source_token("lod") is None
    assert shards_of(leases) == []


async def test_a_slow_answer_does_not_lengthen_the_trust(leasing: LeaseRig) -> None:
    """The time that the store took to answer is the holder's loss."""
    leases = leasing.replica()
    tick = leases._store.tick

    async def slow(*args: Any, **kwargs: Any) -> Held:
        held = await tick(*args, **kwargs)
        leasing.clock.advance(4.0)
        return held

    leases._store.tick = slow  # type: ignore[method-assign]  # a store that takes its time
    await leases.tick()
    assert leases.source_token("lod") is not None
    leasing.clock.advance(TRUST_S - 4.0)
    assert leases.source_token("lod") is None


async def test_a_change_wakes_who_waits(leasing: LeaseRig) -> None:
    """Getting and losing set the event that was fetched before; a renewal does not."""
    leases = leasing.replica()
    first = leases.changed
    await leases.tick()
    assert first.is_set()
    second = leases.changed
    await leases.tick()
    assert not second.is_set()
    await leasing.replica("b").tick()
    await leases.tick()  # it learns that its share is smaller
    assert second.is_set()


async def test_a_lease_that_comes_back_after_a_pause_is_news(leasing: LeaseRig) -> None:
    """Whoever found nothing held during a pause is woken, though the token is the one of before."""
    leases = leasing.replica()
    await leases.tick()
    token = leases.source_token("lod")
    leasing.clock.advance(TRUST_S + 1)
    waiting = leases.changed
    assert leases.source_token("lod") is None
    await leases.tick()
    assert leases.source_token("lod") == token
    assert waiting.is_set()


async def test_a_silent_store_is_told_to_who_waits(leasing: LeaseRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop goes on, says that the leases have gone when their time is over, and recovers by itself."""
    monkeypatch.setattr("relay.leases.TICK_S", 0.01)
    leases = leasing.replica()
    tick, down = leases._store.tick, asyncio.Event()

    async def maybe(*args: Any, **kwargs: Any) -> Held:
        if down.is_set():
            raise StoreConnectionError("down")
        return await tick(*args, **kwargs)

    leases._store.tick = maybe  # type: ignore[method-assign]  # a store that goes away
    async with running(leases):
        await wait_until(lambda: leases.source_token("lod"))
        down.set()
        await asyncio.sleep(0.03)
        lost = leases.changed
        assert leases.source_token("lod") is not None
        leasing.clock.advance(TRUST_S)
        await wait_until(lost.is_set)
        back = leases.changed
        down.clear()
        await wait_until(back.is_set)
        assert leases.source_token("lod") is not None


async def test_an_outage_is_told_with_its_length(leasing: LeaseRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever error the store's client raises, the loop goes on; when the store is back, it says how long that was."""
    monkeypatch.setattr("relay.leases.TICK_S", 0.01)
    leases = leasing.replica()
    tick, answers = leases._store.tick, [InvalidResponse("an answer of a proxy")] * 2

    async def maybe(*args: Any, **kwargs: Any) -> Held:
        if answers:
            leasing.clock.advance(1.5)
            raise answers.pop()
        return await tick(*args, **kwargs)

    leases._store.tick = maybe  # type: ignore[method-assign]  # a store behind a proxy that is not ready
    with capture_logs() as lines:
        async with running(leases):
            await wait_until(lambda: leases.source_token("lod"))
            await wait_until(lambda: len(lines) == 3)
    told = [(line["event"], line.get("outage_s"), line.get("leases")) for line in lines]
    assert told == [("store.unreachable", None, None), ("store.ready", None, 5), ("store.reachable", 3.0, None)]


async def test_replicas_end_up_with_fair_shares(leasing: LeaseRig) -> None:
    """What is above the share is left alone once that is known, and given back with the next tick."""
    one, two = leasing.replica("a"), leasing.replica("b")
    await one.tick()
    await two.tick()
    await one.tick()
    held = shards_of(one)
    assert len(held) == 2
    await two.tick()
    assert shards_of(two) == []
    await one.tick()
    await two.tick()
    assert sorted(held + shards_of(two)) == [0, 1, 2, 3]


async def test_leaving_frees_everything_for_good(leasing: LeaseRig) -> None:
    """The next replica takes over at once, and no tick that was under way brings this one back."""
    leases = leasing.replica()
    await leases.tick()
    waiting = leases.changed
    await asyncio.gather(leases.tick(), leases.leave(), leases.tick())
    assert leases.source_token("lod") is None
    assert waiting.is_set()
    await leases.tick()
    successor = leasing.replica("b")
    await successor.tick()
    assert successor.source_token("lod")
    assert shards_of(successor) == [0, 1, 2, 3]


async def test_who_stops_polling_lets_others_poll_at_once(leasing: LeaseRig) -> None:
    """A drain waits for attempts under way, of which the slowest takes long; the sources do not wait for that."""
    first, second = leasing.replica("a"), leasing.replica("b")
    await first.tick()
    assert first.source_token("lod") is not None
    await first.leave_polling()
    assert first.source_token("lod") is None
    await second.tick()
    assert second.source_token("lod") is not None
    await first.tick()
    assert first.source_token("lod") is None
    assert shards_of(first)


async def test_the_dead_are_forgotten_even_during_a_tick(leasing: LeaseRig) -> None:
    """Leases of a process that is known to be gone are taken with the next tick, even if one is under way."""
    await leasing.replica("dead").tick()
    leases = leasing.replica()
    under_way = asyncio.create_task(leases.tick())
    await asyncio.sleep(0)
    leases.forget(["dead"])
    await under_way
    await leases.tick()
    assert leases.source_token("lod")


async def test_a_delay_has_surely_passed_at_its_due_time(leasing: LeaseRig) -> None:
    """A due time is never reached early, however long the answers took that tell the store's time."""
    leases = leasing.replica()
    takes_s = [0.4, 0.0]
    true_ms = 1_000_000

    async def told(*_: Any, **__: Any) -> Held:
        nonlocal true_ms
        held = Held(true_ms, 1, 4, {})
        delay_s = takes_s.pop(0)
        leasing.clock.advance(delay_s)
        true_ms += round(delay_s * 1000)
        return held

    leases._store.tick = told  # type: ignore[method-assign]  # an answer that takes long, then a quick one
    await leases.tick()
    due_ms = leases.later_ms(100)
    await leases.tick()
    assert leases.now_ms() == true_ms
    assert due_ms >= true_ms + 100
