"""Replays while replicas of two versions run: what one cannot read stops nothing, and hides nothing."""

from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from relay.core.log import START, Place
from relay.core.replay import Ending
from relay.store import Store
from relay.store.keys import Keys
from relay.store.replays import KEPT, UnreadableReplayError
from tests.helpers import wait_until
from tests.service.admin_api import admin_api
from tests.service.replaying import begin, ended, plan_of
from tests.service.rig import Rig

pack = msgspec.msgpack.encode
FOREIGN = {"rpl_x": pack({"what": "another version wrote"}), "rpl_x:at": "0-0", "rpl_x:matched": 0, "rpl_x:sent": 0}


async def write(store: Store, subscriber_id: str, record: dict[str, Any] = FOREIGN, *, running: bool = True) -> None:
    """Begin a replay as another version may."""
    await store.client.hset(Keys().replays(subscriber_id), mapping=record)
    if running:
        await store.client.hset(Keys().replaying, subscriber_id, next(iter(record)))
        await store.log.announce("replay", subscriber_id)


async def test_one_that_cannot_be_read_fails_once_and_the_next_one_runs(rig: Rig) -> None:
    """It ends with its cause, told once in the log; nothing is tried again and again."""
    await rig.subscribe("a")
    replica = await rig.started()
    ids = await rig.minter.mint(5)
    await rig.all_accepted("a", ids)
    with capture_logs() as lines:
        await write(rig.store, "a")

        async def over() -> bool:
            return not await rig.store.replays.running() and not replica.replays._works

        await wait_until(over)
    assert [one["event"] for one in lines if one["event"].startswith("replay.")] == ["replay.unreadable"]
    packed = await rig.store.client.hget(Keys().replays("a"), "rpl_x:end")
    ending = msgspec.msgpack.decode(packed, type=Ending)
    assert (ending.status, "another version" in (ending.reason or "")) == ("failed", True)
    assert (await ended(rig, await begin(rig, "a", "all"))).sent == 5


async def test_a_mistake_that_comes_again_when_it_is_told_makes_no_hot_loop(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two tries there is a pause, whatever fails."""
    await rig.subscribe("a")
    replica = await rig.started()
    await rig.minter.mint(1)
    waits, broken = list[None](), True
    end = replica.store.replays.end

    async def ends(*args: Any) -> bool:
        waits.append(None)
        if broken:
            raise RuntimeError
        return await end(*args)

    monkeypatch.setattr("relay.replays.read_stretch", None)
    monkeypatch.setattr("relay.replays.STORE_PAUSE_S", 0.05)
    monkeypatch.setattr(replica.store.replays, "end", ends)
    with capture_logs():  # telling it would be a pause, too
        plan = await begin(rig, "a", "all")
        await wait_until(lambda: waits)
        before, begun = len(waits), replica.clock.monotonic()
        await wait_until(lambda: len(waits) >= before + 3)
        assert replica.clock.monotonic() - begun >= 0.1
    broken = False
    assert (await ended(rig, plan)).status == "failed"


@pytest.mark.parametrize(
    "record",
    [
        FOREIGN,
        FOREIGN | {"rpl_x": b"\xc1"},
        {"rpl_x": pack(plan_of("a", "all", START, Place(1, 0))), "rpl_x:at": "here"},
        FOREIGN | {"rpl_x": pack(plan_of("a", "all", START, Place(1, 0))), "rpl_x:end": pack(["paused", 1])},
    ],
)
async def test_one_that_cannot_be_read_hides_no_other(redis_client: Redis, record: dict[str, Any]) -> None:
    """It alone is missing, until it is among those that are forgotten; one with more at its end can be read."""
    store = Store(redis_client)
    await redis_client.hset(Keys().sub, "a", "{}")
    await write(store, "a", record, running=False)
    later = plan_of("a", "all", START, START, created_ms=KEPT)
    more = pack([*msgspec.to_builtins(later), "of a later version"])
    await write(store, "a", {later.id: more, f"{later.id}:at": "0-0", f"{later.id}:matched": 1, f"{later.id}:sent": 1})
    assert [one.plan for one in await store.replays.of("a")] == [later]
    with pytest.raises(UnreadableReplayError):
        await store.replays.get("a", "rpl_x")
    assert await store.replays.end("a", later.id, Ending("done", 1))
    for number in range(KEPT):
        plan = plan_of("a", "all", START, START, created_ms=KEPT + 1 + number)
        assert await store.replays.begin(plan) == plan.id
        assert await store.replays.end("a", plan.id, Ending("done", 1))
    assert len(await store.replays.of("a")) == KEPT
    assert not await redis_client.hexists(Keys().replays("a"), "rpl_x")


async def test_the_api_shows_the_others(redis_client: Redis) -> None:
    """The list is whole but for it, and it alone is not found."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        path = f"/v1/subscribers/{subscriber['id']}"
        begun = await api.call("POST", f"{path}/replay", {"since": "2000-01-01T00:00:00Z"})
        await write(api.store, subscriber["id"], running=False)
        assert [one["id"] for one in await api.pages(f"{path}/replays")] == [begun.body["id"]]
        assert (await api.get(f"{path}/replays/{begun.body['id']}")).status == 200
        assert (await api.get(f"{path}/replays/rpl_x")).status == 404
