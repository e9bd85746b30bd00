"""A replay to a subscriber that fails: it rests with it, helps to try it out, and goes on when it is well."""

import asyncio

import pytest

from relay.dispatcher.service import ROOM
from tests.helpers import wait_until
from tests.service.replaying import begin, ended, look, times
from tests.service.rig import Rig, refuse

BREAKER = True


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.core.breaker.Breaker.__init__.__defaults__", (0, None, False, 0.1))
    monkeypatch.setattr("relay.core.breaker.LONGEST_PAUSE_S", 0.3)


async def test_a_replay_rests_with_its_subscriber_and_all_of_it_arrives_once_it_is_well(rig: Rig) -> None:
    """Hardly anything is handed over and attempted while everything is refused; then each event comes once."""
    ids = await rig.minter.mint(300)
    await rig.subscribe("a", retry_schedule_s=(0.05,) * 40)
    replica = await rig.started()
    rig.hooks.behaviours["a"] = refuse
    plan = await begin(rig, "a", "all")
    await wait_until(lambda: len(rig.hooks.hits["a"]) >= 7)
    await asyncio.sleep(0.05)
    assert (await look(rig, plan)).sent <= 2 * ROOM
    assert len(rig.hooks.hits["a"]) < 30
    del rig.hooks.behaviours["a"]
    assert (await ended(rig, plan)).sent == 300
    await rig.all_accepted("a", ids)
    await rig.all_accepted("a", ids)
    assert rig.hooks.accepted["a"] == times(ids, 1)
    assert replica.dispatcher.room("a") == ROOM


async def test_a_replay_alone_tries_out_a_subscriber_of_which_nothing_else_is_known(rig: Rig) -> None:
    """Its failures are all there is to say that it is well again: the replay provides the attempts."""
    ids = await rig.minter.mint(60)
    await rig.subscribe("a", retry_schedule_s=(3600.0,))
    await rig.started()
    rig.hooks.behaviours["a"] = refuse
    plan = await begin(rig, "a", "all")
    await wait_until(lambda: len(rig.hooks.hits["a"]) >= 8)
    del rig.hooks.behaviours["a"]
    assert (await ended(rig, plan)).sent == 60
    waiting = {one.place for one in await rig._waiting("a")}
    assert len(rig.hooks.accepted["a"]) + len(waiting) == len(ids)
    assert 0 < len(waiting) < 30
