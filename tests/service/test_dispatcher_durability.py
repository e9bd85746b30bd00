"""The durability gate of the dispatcher: with `wait_replicas` nobody is sent what a failover could take back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import msgspec
import pytest

from relay.store import Store
from relay.store.connect import connect
from relay.store.keys import shard_of
from tests.helpers import ValkeyProcess, wait_until
from tests.service.rig import Rig, rigged


@pytest.fixture
async def gated(pair: tuple[ValkeyProcess, ValkeyProcess], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """Provide a rig on the primary, with the replica in step."""
    monkeypatch.setattr("relay.leases.TICK_S", 0.05)
    async with connect(pair[0].url) as client:
        store = Store(client)
        await wait_until(lambda: store.log.reach_replicas(1, 50), 10)
        async with rigged(pair[0].url, store) as made:
            yield made


async def test_nothing_is_dispatched_before_it_is_durable(
    gated: Rig, pair: tuple[ValkeyProcess, ValkeyProcess]
) -> None:
    """With `wait_replicas` an event that no replica has is seen by nobody; it is sent when the replica is back."""
    await gated.subscribe("a")
    await gated.started(wait_replicas=1)
    first = await gated.minter.mint(3)
    await gated.all_accepted("a", first)
    os.kill(pair[1].pid, signal.SIGSTOP)
    held = await gated.minter.mint(3)
    await asyncio.sleep(0.3)
    assert gated.hooks.accepted["a"].keys() == set(first)
    os.kill(pair[1].pid, signal.SIGCONT)
    await gated.all_accepted("a", held)


async def test_a_gate_that_stays_shut_holds_up_no_news_of_subscribers(
    gated: Rig, pair: tuple[ValkeyProcess, ValkeyProcess]
) -> None:
    """An event waits for a replica that is away: who is changed meanwhile is known as changed all the same."""
    subscriber = await gated.subscribe("a")
    replica = await gated.started(wait_replicas=1)
    await gated.all_accepted("a", await gated.minter.mint(1))
    os.kill(pair[1].pid, signal.SIGSTOP)
    ids = await gated.minter.mint(2)
    lane = replica.shards[shard_of("a")].lanes["a"]
    await gated.change(msgspec.structs.replace(subscriber, enabled=False))
    await wait_until(lambda: not lane.receiver.subscriber.enabled)
    await gated.change(subscriber)
    await wait_until(lambda: lane.receiver.subscriber.enabled)
    assert not gated.hooks.accepted["a"].keys() & set(ids)
    os.kill(pair[1].pid, signal.SIGCONT)
    await gated.all_accepted("a", ids)


async def test_a_relay_that_starts_behind_a_shut_gate_begins_at_the_right_place(
    gated: Rig, pair: tuple[ValkeyProcess, ValkeyProcess]
) -> None:
    """Nothing is known to be durable: shards are held, subscribers known, nothing is sent; later all of it is."""
    subscriber = await gated.subscribe("a")
    os.kill(pair[1].pid, signal.SIGSTOP)
    ids = await gated.minter.mint(3)
    replica = await gated.started(wait_replicas=1)
    await gated.change(msgspec.structs.replace(subscriber, description="changed"))
    lane = replica.shards[shard_of("a")].lanes["a"]
    await wait_until(lambda: lane.receiver.subscriber.description == "changed")
    assert not gated.hooks.hits["a"]
    os.kill(pair[1].pid, signal.SIGCONT)
    ids += await gated.minter.mint(2)
    await gated.all_accepted("a", ids)
    assert [*dict.fromkeys(gated.hooks.order("a"))] == ids
