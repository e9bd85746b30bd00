"""A subscriber is changed while it is failing: what its owner may have mended is tried at once, nothing else."""

import asyncio

import msgspec
import pytest

from relay.core.subscriber import Subscriber
from relay.store.keys import shard_of
from tests.helpers import wait_until
from tests.service.rig import Hit, Replica, Rig, refuse

BREAKER = True


@pytest.fixture(autouse=True)
def _long_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.core.breaker.Breaker.__init__.__defaults__", (0, None, False, 3600.0))


async def failing(rig: Rig) -> tuple[Subscriber, Replica]:
    """A subscriber whose breaker has opened after five attempts."""
    rig.hooks.behaviours["a"] = refuse
    subscriber = await rig.subscribe("a", event_types=("lab.*",), max_in_flight=1, retry_schedule_s=(3600,))
    replica = await rig.started()
    await rig.minter.mint(20)
    await wait_until(lambda: replica.shards[shard_of("a")].lanes["a"].resting)
    return subscriber, replica


async def test_the_relays_own_notice_lets_no_attempt_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back as a change of the subscriber: five attempts, and no more, although it was told after the first."""
    monkeypatch.setattr("tests.service.rig.NOTICE_AFTER_S", 0.0)
    _, replica = await failing(rig)
    lane = replica.shards[shard_of("a")].lanes["a"]
    await wait_until(lambda: lane.receiver.subscriber.state.status == "failing")
    await asyncio.sleep(0.1)
    assert lane.resting
    assert len(rig.hooks.hits["a"]) == 5


async def test_a_change_that_mends_nothing_lets_no_attempt_out(rig: Rig) -> None:
    """A new description, another order: breaker and rest stay; and a new header ends them."""
    subscriber, replica = await failing(rig)
    lane = replica.shards[shard_of("a")].lanes["a"]
    for change in ({"description": "new"}, {"retry_schedule_s": (7200,)}, {"ordering": "entity"}):
        subscriber = msgspec.structs.replace(subscriber, **change)
        await rig.change(subscriber)
        await wait_until(lambda wanted=subscriber: lane.receiver.subscriber == wanted and not lane.unsorted)
    await asyncio.sleep(0.1)
    assert len(rig.hooks.hits["a"]) == 5
    assert lane.resting
    del rig.hooks.behaviours["a"]
    await rig.change(msgspec.structs.replace(subscriber, headers={"X-Mended": "yes"}))
    await wait_until(lambda: len(rig.hooks.accepted["a"]) >= 15)


async def test_a_change_while_a_probe_is_out_leaves_the_probe_its_say(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is described anew meanwhile, and the probe succeeds: the rest is over."""
    monkeypatch.setattr("relay.core.breaker.Breaker.__init__.__defaults__", (0, None, False, 0.05))
    subscriber, replica = await failing(rig)
    lane = replica.shards[shard_of("a")].lanes["a"]
    described = asyncio.Event()

    async def mended(_: Hit) -> int:
        await described.wait()
        return 200

    rig.hooks.behaviours["a"] = mended
    await wait_until(lambda: lane.breaker.probing and rig.hooks.open["a"] == 1)
    await rig.change(msgspec.structs.replace(subscriber, description="new"))
    await wait_until(lambda: lane.receiver.subscriber.description == "new")
    described.set()
    await wait_until(lambda: len(rig.hooks.accepted["a"]) >= 15)
