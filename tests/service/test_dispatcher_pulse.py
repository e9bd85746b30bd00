"""What the store knows of how a subscriber is doing: at once, across restarts, and what ends a rest."""

import asyncio

import pytest
from redis.asyncio import Redis

from relay.core.pulse import Pulse
from relay.core.subscriber import moment_ms
from relay.dispatcher.lane import Lane
from relay.store.keys import shard_of
from tests.helpers import wait_until
from tests.service.admin_api import Api, admin_api
from tests.service.rig import Replica, Rig, refuse

BREAKER = True
NAME = "sub_a"


async def pulse_of(rig: Rig, name: str) -> Pulse:
    """As it is stored."""
    return (await rig.store.pulses.of([name]))[name]


def lane_of(replica: Replica, name: str) -> Lane:
    """The subscriber's queue."""
    lane: Lane = replica.shards[shard_of(name)].lanes[name]
    return lane


async def resting(rig: Rig, replica: Replica) -> list[str]:
    """A subscriber that refuses until it rests for long; the events that it has not had."""
    rig.hooks.behaviours[NAME] = refuse
    await rig.subscribe(NAME, retry_schedule_s=(0.01,) * 50)
    await wait_until(lambda: NAME in replica.shards[shard_of(NAME)].lanes)
    lane_of(replica, NAME).breaker._pause_s = 1000.0
    ids = await rig.minter.mint(8)

    async def rests() -> bool:
        return (await pulse_of(rig, NAME)).resting_until_ms is not None

    await wait_until(rests)
    return ids


async def test_who_fails_is_shown_as_failing_at_once(rig: Rig, redis_client: Redis) -> None:
    """In the list and by itself, with since when, how often, and when it is tried again; so are its deliveries."""
    replica = await rig.started()
    async with admin_api(redis_client) as api:
        api.clock.at = replica.clock.now()
        await resting(rig, replica)
        (listed,) = (await api.get("/v1/subscribers")).body["data"]
        state = listed["state"]
        assert state == (await api.get(f"/v1/subscribers/{NAME}")).body["state"]
        assert state == (await api.get(f"/v1/subscribers/{NAME}/health")).body["state"]
        assert (state["status"], state["reason"]) == ("failing", "status 500")
        assert state["failures"] >= 5
        assert state["failing_since"] < state["resting_until"]
        retries = (await api.get("/v1/deliveries", status="pending", subscriber_id=NAME)).body["data"]
        assert {one["waits_for"] for one in retries} == {"resting"}
        timed = {one["next_attempt_at"] for one in retries if one["attempts"]}
        assert timed == {state["resting_until"]}
        again = await api.call("POST", f"/v1/deliveries/{retries[0]['id']}/redeliver")
        assert "rests" in again.body["note"]
        assert [one["reason"] for one in again.body["waits"]] == ["resting"], "when it is due says nothing then"
        assert again.body["waits"][0]["until"] == state["resting_until"]
        many = await api.call("POST", "/v1/deliveries/redeliver", {"subscriber_id": NAME, "status": "pending"})
        assert many.body["count"] == 0 or "rests" in many.body["note"]
    rig.hooks.behaviours.pop(NAME)


@pytest.mark.parametrize("route", ["test", "enable"])
async def test_a_rest_ends_at_once_when_the_receiver_is_known_to_be_well(
    rig: Rig, redis_client: Redis, route: str
) -> None:
    """A test that was delivered proves it, and whoever enables an enabled subscriber says so."""
    replica = await rig.started()
    async with admin_api(redis_client) as api:
        ids = await resting(rig, replica)
        del rig.hooks.behaviours[NAME]
        answer = await api.call("POST", f"/v1/subscribers/{NAME}/{route}")
        assert answer.body.get("resumed", True)
        assert answer.body.get("state", {}).get("resting_until") is None
        await rig.all_accepted(NAME, ids)
        await wait_until(lambda: _is(api, "ok"))


async def test_a_test_that_failed_ends_no_rest(rig: Rig, redis_client: Redis) -> None:
    """Nothing is proven by it."""
    replica = await rig.started()
    async with admin_api(redis_client) as api:
        await resting(rig, replica)
        answer = await api.call("POST", f"/v1/subscribers/{NAME}/test")
        assert answer.body["resumed"] is False
        assert (await pulse_of(rig, NAME)).resting_until_ms is not None
    rig.hooks.behaviours.pop(NAME)


async def test_enabling_an_enabled_one_tells_of_no_recovery(rig: Rig, redis_client: Redis) -> None:
    """It is failing until an attempt has succeeded."""
    replica = await rig.started()
    async with admin_api(redis_client) as api:
        await resting(rig, replica)
        before = await rig.store.log.end()
        answer = await api.call("POST", f"/v1/subscribers/{NAME}/enable")
        assert (answer.status, answer.body["state"]["status"]) == (200, "failing")
        assert await rig.store.log.end() == before
    rig.hooks.behaviours.pop(NAME)


async def test_a_restart_does_not_begin_the_failing_anew(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notice counts from the first failure that any replica saw, also if none before had come to tell of it."""
    rig.hooks.behaviours[NAME] = refuse
    await rig.subscribe(NAME, retry_schedule_s=(0.02,) * 50)
    first = await rig.started()
    await rig.minter.mint(1)

    async def since() -> int | None:
        return (await pulse_of(rig, NAME)).failing_since_ms

    await wait_until(since)
    began_ms = await since()
    assert began_ms is not None
    await first.crash()
    monkeypatch.setattr("tests.service.rig.NOTICE_AFTER_S", 0.0)
    await rig.started(after=[first])

    async def told() -> bool:
        subscriber = await rig.store.registry.get(NAME)
        return subscriber is not None and subscriber.state.status == "failing"

    await wait_until(told)
    subscriber = await rig.store.registry.get(NAME)
    assert subscriber is not None
    assert subscriber.state.failing_since is not None
    assert await since() == began_ms
    assert moment_ms(subscriber.state.failing_since) == began_ms
    rig.hooks.behaviours.pop(NAME)


async def test_a_rest_is_not_taken_over(rig: Rig) -> None:
    """Whoever takes over tries at once, and the store does not go on saying that the subscriber rests."""
    first = await rig.started()
    ids = await resting(rig, first)
    del rig.hooks.behaviours[NAME]
    await first.crash()
    await rig.started(after=[first])
    await rig.all_accepted(NAME, ids)

    async def well() -> bool:
        return (await pulse_of(rig, NAME)).resting_until_ms is None

    await wait_until(well)


async def test_a_deleted_subscriber_leaves_no_pulse(rig: Rig) -> None:
    """Not even one that an attempt under way writes after the deletion."""
    await rig.subscribe(NAME)
    replica = await rig.started()
    await rig.minter.mint(1)
    await rig.committed(NAME)
    pulse = await pulse_of(rig, NAME)
    assert pulse.last_success_ms is not None
    await rig.unsubscribe(NAME)
    shard = replica.shards[shard_of(NAME)]
    shard.group.pulses[NAME] = pulse
    await asyncio.wait_for(replica.dispatcher._commits.commit(shard), 5)
    assert await pulse_of(rig, NAME) == Pulse()


async def _is(api: Api, status: str) -> bool:
    body = (await api.get(f"/v1/subscribers/{NAME}")).body
    return bool(body["state"]["status"] == status)
