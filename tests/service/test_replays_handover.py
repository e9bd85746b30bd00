"""A replay outlives whoever carries it out: crashes between any two steps, takeovers, a store that was away."""

import asyncio
from typing import Any

import pytest

from relay.core.log import START
from relay.store.keys import shard_of
from relay.store.replays import Verdict
from tests.helpers import wait_until
from tests.service.replaying import HIGHEST, begin, ended, look, times
from tests.service.rig import Hit, Replica, Rig


def crash_at(replica: Replica, monkeypatch: pytest.MonkeyPatch, step_no: int, *, after: bool) -> asyncio.Event:
    """Let a replica's replays stop for ever before or after its step with this number reaches the store."""
    real, stopped, count = replica.store.replays.step, asyncio.Event(), 0

    async def step(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == step_no and not after:
            stopped.set()
            await asyncio.Event().wait()
        result = await real(*arguments)
        if count == step_no:
            stopped.set()
            await asyncio.Event().wait()
        return result

    monkeypatch.setattr(replica.store.replays, "step", step)
    return stopped


@pytest.mark.parametrize("after", [False, True])
async def test_a_crash_between_two_steps_loses_nothing_and_doubles_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    """Killed just before a step or just after it: the next holder goes on at the record, and each arrives once more."""
    ids = await rig.minter.mint(400)
    await rig.subscribe("a")
    first = await rig.replica()
    stopped = crash_at(first, monkeypatch, 3, after=after)
    first.start()
    await first.ready()
    plan = await begin(rig, "a", "all")
    await asyncio.wait_for(stopped.wait(), 5)
    await rig.committed("a")  # so that an attempt which the crash cuts off is not made twice
    await first.crash()
    stands = await look(rig, plan)
    assert 0 < stands.sent == len(rig.hooks.hits["a"]) < 400
    await rig.started(after=[first])
    assert (await ended(rig, plan)).sent == 400
    await rig.all_accepted("a", ids)
    assert rig.hooks.accepted["a"] == times(ids, 1)


async def test_another_replica_takes_over_in_the_middle_of_the_sending(rig: Rig) -> None:
    """Killed while attempts are under way: every event is received, only those under way may come twice."""
    ids = await rig.minter.mint(400)
    await rig.subscribe("a", max_in_flight=4)
    first = await rig.started()

    async def slowly(_: Hit) -> int:
        await asyncio.sleep(0.002)
        return 200

    rig.hooks.behaviours["a"] = slowly
    plan = await begin(rig, "a", "all")
    await wait_until(lambda: len(rig.hooks.hits["a"]) >= 150)
    await first.crash()
    await rig.started(after=[first])
    assert (await ended(rig, plan)).sent == 400
    assert rig.hooks.accepted["a"].keys() == set(ids)
    assert len(rig.hooks.hits["a"]) - len(ids) <= 100


async def test_a_stale_token_moves_nothing(rig: Rig) -> None:
    """Whoever lost the shard is told so, and neither sends nor moves the record; the new holder may."""
    await rig.minter.mint(10)
    await rig.subscribe("a")
    plan = await begin(rig, "a", "all")
    shard = shard_of("a")
    held = await rig.store.leases.tick("old", "deliver", (), [shard], ttl_ms=1)
    old = held.tokens[f"shard.{shard}"]
    await asyncio.sleep(0.005)
    held = await rig.store.leases.tick("new", "deliver", (), [shard], ttl_ms=1)
    entries = await rig.store.log.after(START, plan.until, 10)
    events = [(entry.place, True) for entry in entries]
    step = await rig.store.replays.step(plan, old, START, plan.until, events, HIGHEST)
    assert step.verdict is Verdict.FENCED
    assert (await look(rig, plan)).at == START
    assert await rig._waiting("a") == []
    new = held.tokens[f"shard.{shard}"]
    step = await rig.store.replays.step(plan, new, START, plan.until, events, HIGHEST)
    assert (step.verdict, len(step.due)) == (Verdict.OK, 10)


async def test_a_step_whose_answer_was_lost_is_not_made_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store did it, the connection broke: the record is read again, and each event goes out once."""
    ids = await rig.minter.mint(300)
    await rig.subscribe("a")
    replica = await rig.replica()
    monkeypatch.setattr("relay.replays.STORE_PAUSE_S", 0.02)
    real, lost = replica.store.replays.step, 0

    async def step(*arguments: Any) -> Any:
        nonlocal lost
        result = await real(*arguments)
        if lost < 2:
            lost += 1
            raise ConnectionResetError
        return result

    monkeypatch.setattr(replica.store.replays, "step", step)
    replica.start()
    await replica.ready()
    assert (await ended(rig, await begin(rig, "a", "all"))).sent == 300
    assert lost == 2
    await rig.all_accepted("a", ids)
    assert rig.hooks.accepted["a"] == times(ids, 1)


async def test_of_two_replicas_the_one_with_the_shard_carries_it_out(rig: Rig) -> None:
    """Begun anywhere, it is found by the holder, and each event goes out once; the other one has nothing to do."""
    ids = await rig.minter.mint(200)
    await rig.subscribe("a")
    first, second = await rig.started(), await rig.replica()
    second.start()
    await wait_until(lambda: first.shards and second.shards and len(first.shards) + len(second.shards) == 32)
    plan = await begin(rig, "a", "all")
    holder = first if shard_of("a") in first.shards else second
    assert (await ended(rig, plan)).sent == 200
    await rig.all_accepted("a", ids)
    assert rig.hooks.accepted["a"] == times(ids, 1)
    counts = [
        one.metrics.registry.get_sample_value("relay_replayed_deliveries_total")
        for one in (holder, first if holder is second else second)
    ]
    assert counts == [200, 0]
