"""What users of other webhook senders complain of in public issue trackers: what grows until the disk is full.

hookdeck/outpost, svix/svix-webhooks, frain-dev/convoy. That lists stay quick at volume (convoy#381) is tested in
tests/service/test_admin_deliveries.py.
"""

import asyncio
from collections import Counter

import msgspec
import pytest

from relay.housekeeping import Housekeeping
from relay.store.keys import shard_of
from tests.helpers import wait_until
from tests.service.rig import Replica, Rig, refuse

CONTROL_KEPT = 10_000
NODE_ENTRIES = 100
"""A stream is trimmed by whole nodes, of so many entries at most (Redis: stream-node-max-entries)."""

KEPT = {"att", "ctl", "cur", "epoch", "fence", "lease", "meta", "n", "pulse", "st", "sub"}
"""What may be left: attempts (see below), counters (they expire), and what grows with subscribers and entities only."""


def _keeper(rig: Rig, replica: Replica, *, keep_s: float) -> Housekeeping:
    store = rig.store
    return Housekeeping(
        store.log,
        store.deliveries,
        replica.leases,
        registry=store.registry,
        disk=store.disk,
        keep_events_s=keep_s,
        keep_attempts_s=keep_s,
    )


async def _sizes(rig: Rig) -> Counter[str]:
    """Elements that the store holds, by the kind of their keys."""
    client, sizes = rig.store.client, Counter[str]()
    measures = {b"stream": client.xlen, b"hash": client.hlen, b"zset": client.zcard}
    async for key in client.scan_iter():
        measure = measures.get(await client.type(key))
        sizes[key.decode().split(":")[1]] += await measure(key) if measure else 1
    return +sizes


async def _month(rig: Rig, replica: Replica, count: int) -> None:
    """Events that are delivered, die, or wait for one who is disabled; then retention passes."""
    await rig.minter.mint(count)
    await rig.committed("well", "dead", timeout_s=20)
    before = await _sizes(rig)
    assert before["log"] == before["ix"] == count
    assert before["dl"] == count
    await asyncio.sleep(0.002)  # the latest of it is from an earlier millisecond
    keeper = asyncio.create_task(_keeper(rig, replica, keep_s=0.0).run())
    await wait_until(lambda: _has_only(rig, KEPT), 10, what="nothing is left but what is bounded")
    keeper.cancel()
    for name in ("well", "dead", "away"):
        await rig.expect_from_now(name)


async def _has_only(rig: Rig, kinds: set[str]) -> bool:
    return set(await _sizes(rig)) <= kinds


async def test_svix_1933_nothing_outlives_its_retention(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """svix#1933, svix#671, outpost#249, outpost#1027: queues, logs and tables that nobody ever trimmed.

    Here two months leave as much behind as one: no event, no index entry, no retry and no dead letter, not even of a
    subscriber that was disabled all the time; of the attempts less than what the store trims in one piece.
    """
    monkeypatch.setattr("relay.housekeeping.EVERY_S", 0.02)
    rig.hooks.behaviours["dead"] = refuse
    await rig.subscribe("well")
    await rig.subscribe("dead", retry_schedule_s=(0.01,))
    away = await rig.subscribe("away")
    await rig.change(msgspec.structs.replace(away, enabled=False))
    replica = await rig.started()
    await _month(rig, replica, 120)
    first = await _sizes(rig)
    await _month(rig, replica, 120)
    second = await _sizes(rig)
    assert {kind for kind in second if second[kind] > first[kind]} <= {"st", "att", "n"}
    assert second["st"] == 240, "entities have a retention of their own"
    assert second["att"] <= 3 * NODE_ENTRIES
    await rig.minter.mint(1)  # so that the log has an end again
    await rig.committed("well", "dead")


async def test_svix_1933_a_dead_letter_is_kept_as_long_as_an_event(rig: Rig) -> None:
    """svix#1933: retention that is ignored; nor is anything removed before its time."""
    rig.hooks.behaviours["dead"] = refuse
    await rig.subscribe("dead", retry_schedule_s=(0.01,))
    replica = await rig.started()
    ids = await rig.minter.mint(5)
    await wait_until(lambda: len(rig.hooks.hits["dead"]) == 10)
    await rig.committed("dead")
    await _keeper(rig, replica, keep_s=3600)._tidy()
    assert len(await rig.store.deliveries.dead("dead", 0, 10)) == 5
    assert all([await rig.store.log.find(one) for one in ids])
    assert len(await rig.store.deliveries.attempts(shard_of("dead"))) > 0


async def test_svix_671_the_control_stream_is_trimmed_as_it_is_written(rig: Rig) -> None:
    """svix#671: a stream that was acknowledged, and never trimmed.

    Here whoever writes keeps it short: registrations, and requests to poll now.
    """
    client, key = rig.store.client, "{relay}:ctl"
    await rig.subscribe("a")

    async def register() -> None:
        await rig.change(msgspec.structs.replace(rig._subscribers["a"], description="changed"))

    async def announce() -> None:
        await rig.store.log.announce("poll", "lod")

    for write in (register, announce):
        missing = CONTROL_KEPT + 5 * NODE_ENTRIES - await client.xlen(key)
        async with client.pipeline(transaction=False) as pipe:
            for _ in range(missing):
                pipe.xadd(key, {"k": "test", "v": ""})
            await pipe.execute()
        await write()
        assert await client.xlen(key) <= CONTROL_KEPT + NODE_ENTRIES
