"""What is told of a subscriber's state: a 410 is never forgotten, and nothing old is held against anybody."""

import asyncio
from typing import Any

import msgspec
import pytest
from redis.exceptions import ConnectionError as StoreConnectionError

from relay.core.subscriber import State
from relay.store.keys import shard_of
from relay.store.registry import RegistryStore
from tests.helpers import wait_until
from tests.service.rig import Hit, Rig, refuse

BREAKER = True


async def gone(_: Hit) -> int:
    """Say that this subscriber is no more."""
    return 410


async def status(rig: Rig, name: str) -> str:
    """How the store says that the subscriber is doing."""
    found = await rig.store.registry.get(name)
    assert found is not None
    return found.state.status


async def is_disabled(rig: Rig, name: str) -> bool:
    """Whether the relay has disabled it."""
    return await status(rig, name) == "disabled"


async def test_410_disables_a_subscriber_that_is_failing_already(rig: Rig) -> None:
    """Whether one of its deliveries has died already makes no difference: it has said so itself."""
    rig.hooks.behaviours["a"] = gone
    await rig.subscribe("a", state=State(status="failing", failing_since="2026-11-21T17:00:00Z"))
    await rig.started()
    await rig.minter.mint(1)
    await wait_until(lambda: is_disabled(rig, "a"))


async def test_a_notice_that_cannot_be_written_is_written_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is away when a subscriber says that it is gone; nothing else will come of it that could remind us."""
    replace, failed = RegistryStore.replace, asyncio.Event()

    async def fails_once(self: RegistryStore, *args: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise StoreConnectionError
        await replace(self, *args)

    rig.hooks.behaviours["a"] = gone
    await rig.subscribe("a")
    await rig.started()
    monkeypatch.setattr(RegistryStore, "replace", fails_once)
    await rig.minter.mint(1)
    await wait_until(lambda: is_disabled(rig, "a"))
    assert failed.is_set()


async def test_410_outranks_a_notice_that_is_being_written(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told of although something else about the same subscriber is about to be told."""
    replace, writing, go_on = RegistryStore.replace, asyncio.Event(), asyncio.Event()

    async def slowly(self: RegistryStore, *args: Any) -> None:
        writing.set()
        await go_on.wait()
        await replace(self, *args)

    async def behave(_: Hit) -> int:
        if not writing.is_set():
            return 200
        go_on.set()
        return 410

    await rig.subscribe("a", state=State(status="failing", failing_since="2026-11-21T17:00:00Z"))
    await rig.started()
    monkeypatch.setattr(RegistryStore, "replace", slowly)
    rig.hooks.behaviours["a"] = behave
    await rig.minter.mint(1)  # well again: that is to be told
    await asyncio.wait_for(writing.wait(), 5)
    await rig.minter.mint(1)
    await wait_until(lambda: is_disabled(rig, "a"))


async def test_who_is_enabled_again_begins_anew(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long it had failed before it was disabled is not held against it at its first failure."""
    monkeypatch.setattr("tests.service.rig.NOTICE_AFTER_S", 3.0)
    rig.hooks.behaviours["a"] = refuse
    subscriber = await rig.subscribe("a", retry_schedule_s=(0.05,) * 100)
    replica = await rig.started()
    lane = replica.shards[shard_of("a")].lanes["a"]
    await rig.minter.mint(1)
    await wait_until(lambda: lane.pulse.failing_since_ms is not None)
    lane.pulse = msgspec.structs.replace(lane.pulse, failing_since_ms=1)
    off = msgspec.structs.replace(subscriber, enabled=False, state=State(status="disabled"))
    await rig.change(off)
    await wait_until(lambda: not lane.receiver.subscriber.enabled)
    await rig.change(subscriber)
    await wait_until(lambda: lane.receiver.subscriber.enabled)
    before = len(rig.hooks.hits["a"])
    await wait_until(lambda: len(rig.hooks.hits["a"]) >= before + 3)
    assert await status(rig, "a") == "ok"


async def test_410_to_the_former_url_does_not_disable_the_new_one(rig: Rig) -> None:
    """The subscriber was moved while the attempt was out, so its answer says nothing about where it is now."""
    moved = asyncio.Event()

    async def late(_: Hit) -> int:
        await moved.wait()
        return 410

    rig.hooks.behaviours["a"] = late
    subscriber = await rig.subscribe("a")
    replica = await rig.started()
    lane = replica.shards[shard_of("a")].lanes["a"]
    ids = await rig.minter.mint(1)
    await wait_until(lambda: len(rig.hooks.hits["a"]) == 1)
    await rig.change(msgspec.structs.replace(subscriber, url=f"{rig.hooks.url}/b"))
    await wait_until(lambda: lane.receiver.subscriber.url.endswith("/b"))
    moved.set()
    await rig.all_accepted("b", ids)
    assert await status(rig, "a") == "ok"
    rig.hooks.accepted["a"] = rig.hooks.accepted["b"]
