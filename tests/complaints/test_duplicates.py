"""What users of other webhook senders complain of in public issue trackers: sent twice, sent for ever, never sent.

svix/svix-webhooks, hookdeck/outpost, frain-dev/convoy; each test names its issue, or a mistake that several have made.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from relay.core.log import Attempt, Waiting
from relay.store.keys import shard_of
from tests.helpers import wait_until
from tests.service.raw_server import once, serving
from tests.service.rig import Hit, Rig, refuse


async def _attempts(rig: Rig, name: str) -> list[Attempt]:
    """Every attempt on record, oldest first."""
    groups = await rig.store.deliveries.attempts(shard_of(name), count=1000)
    found = [one for _, group in groups for one in group if one.subscriber_id == name]
    return sorted(found, key=lambda one: (one.started_ms, one.attempt_no))


def _hang(release: asyncio.Event) -> Callable[[Hit], Awaitable[int]]:
    async def behave(_: Hit) -> int:
        await release.wait()
        return 200

    return behave


async def test_svix_2181_an_attempt_under_way_is_nobody_elses_before_its_time_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """svix#2181: the visibility time-out was shorter than the request's, so a slow request was sent again meanwhile.

    Here it is due again, for whoever takes over, only after its own time-out, whatever that is.
    """
    monkeypatch.setattr("relay.dispatcher.shard.SLOW_S", 0.02)
    release = asyncio.Event()
    for name, timeout_s in (("patient", 30.0), ("hasty", 3.0)):
        rig.hooks.behaviours[name] = _hang(release)
        await rig.subscribe(name, timeout_s=timeout_s)
    await rig.started()
    await rig.minter.mint(1)
    try:
        for name, timeout_s in (("patient", 30.0), ("hasty", 3.0)):
            await wait_until(lambda name=name: _is_parked(rig, name))
            started_ms = rig.hooks.hits[name][0].at.timestamp() * 1000
            ((_, due_ms),) = await rig.store.deliveries.waiting(shard_of(name), 0, 10)
            assert due_ms >= started_ms + timeout_s * 1000
    finally:
        release.set()
    await rig.committed("patient", "hasty")
    assert len(rig.hooks.hits["patient"]) == len(rig.hooks.hits["hasty"]) == 1


async def _is_parked(rig: Rig, name: str) -> bool:
    return bool(await rig._waiting(name))


async def test_a_lock_is_renewed_while_requests_are_under_way(rig: Rig) -> None:
    """Lock lifetime equal to the request's time-out (seen in several): a request that took all of it was sent twice.

    Here the leases of two replicas are renewed all the time, whatever their requests do, and each event is sent once.
    """
    release = asyncio.Event()
    names = [f"s{number}" for number in range(8)]
    for name in names:
        rig.hooks.behaviours[name] = _hang(release)
        await rig.subscribe(name)
    replicas = [await rig.replica(), await rig.replica()]
    for replica in replicas:
        replica.start()
    await wait_until(lambda: [len(replica.shards) for replica in replicas] == [16, 16])
    ids = await rig.minter.mint(1)
    await wait_until(lambda: all(rig.hooks.hits[name] for name in names))
    began = await _expiries(rig)

    async def renewed() -> bool:
        now = await _expiries(rig)
        return len(now) == 2 and all(now[owner] > began[owner] + 200 for owner in now)

    try:
        await wait_until(renewed)
    finally:
        release.set()
    for name in names:
        await rig.all_accepted(name, ids)
        await rig.committed(name)
        assert rig.hooks.order(name) == ids


async def _expiries(rig: Rig) -> dict[bytes, int]:
    """Until when each replica holds what it holds, in ms by the store's clock."""
    stored = await rig.store.client.hgetall("{relay}:lease")
    return {owner: int(value.rpartition(b":")[2]) for owner, value in stored.items() if owner.startswith(b"@replica")}


async def test_outpost_663_a_retry_whose_event_is_gone_ends_as_a_dead_letter(rig: Rig) -> None:
    """outpost#663: a retry whose record was missing came back for ever, twice a minute.

    Here it becomes a dead letter at its next turn, and the retries beside it are made.
    """
    rig.hooks.behaviours["a"] = refuse
    await rig.subscribe("a", retry_schedule_s=(0.3, 0.3))
    await rig.started()
    lost, kept = await rig.minter.mint(2)
    await wait_until(lambda: len(rig.hooks.hits["a"]) == 2)
    await wait_until(lambda: _waits(rig, 2))
    entry = await rig.store.log.find(lost)
    assert entry is not None
    await rig.store.client.xdel("{relay}:log", str(entry.place))
    del rig.hooks.behaviours["a"]
    await rig.all_accepted("a", [kept])
    await rig.committed("a")
    assert [place for place, _ in await rig.store.deliveries.dead("a", 0, 10)] == [entry.place]
    assert rig.hooks.order("a").count(lost) == 1


async def _waits(rig: Rig, count: int) -> bool:
    return len(await rig._waiting("a")) == count


async def test_outpost_663_a_retry_of_nobody_is_dropped(rig: Rig) -> None:
    """outpost#663: the same, where it is the subscriber that is gone."""
    await rig.subscribe("a")
    ids = await rig.minter.mint(1)
    entry = await rig.store.log.find(ids[0])
    assert entry is not None
    key = f"{{relay}}:rq:{shard_of('a')}"
    await rig.store.client.zadd(key, {str(Waiting("nobody", entry.place, 3)): 1})
    await rig.started()
    await rig.all_accepted("a", ids)
    await wait_until(lambda: _is_empty(rig, key))


async def _is_empty(rig: Rig, key: str) -> bool:
    return not await rig.store.client.exists(key)


async def test_outpost_845_a_large_answer_is_counted_like_any_other(rig: Rig) -> None:
    """outpost#845: an answer too large to be recorded made the retries go on for ever.

    Here the schedule ends after its last step, and a kilobyte of each answer is on record.
    """
    body = b"x" * 8_000_000
    head = b"HTTP/1.1 500 X\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with serving(once(head + body)) as server:
        subscriber = await rig.subscribe("a", retry_schedule_s=(0.01, 0.01))
        await rig.change(msgspec.structs.replace(subscriber, url=server.url))
        await rig.started()
        await rig.minter.mint(1)
        await wait_until(lambda: _is_dead(rig))
        await rig.committed("a")
        assert server.connections == 3
    attempts = await _attempts(rig, "a")
    assert [(one.attempt_no, one.verdict) for one in attempts] == [(1, "retry"), (2, "retry"), (3, "dead")]
    assert all(0 < len(one.body) <= 1024 for one in attempts)


async def _is_dead(rig: Rig) -> bool:
    return bool(await rig.store.deliveries.dead("a", 0, 10))


@pytest.mark.parametrize("due_ms", [0, 1, 1_000_000_000_000])
@pytest.mark.parametrize("running", [False, True])
async def test_convoy_1667_an_attempt_whose_time_is_long_past_is_made_at_once(
    rig: Rig, due_ms: int, *, running: bool
) -> None:
    """convoy#1667: a next attempt in the past was never made, whether it was found at the start or came meanwhile."""
    rig.hooks.behaviours["a"] = refuse
    await rig.subscribe("a", retry_schedule_s=(3600, 3600))
    replica = await rig.started()
    ids = await rig.minter.mint(1)
    await wait_until(lambda: _waits(rig, 1))
    del rig.hooks.behaviours["a"]
    if not running:
        await replica.crash()
    (waiting,) = await rig._waiting("a")
    await rig.store.client.zadd(f"{{relay}}:rq:{shard_of('a')}", {str(waiting): due_ms})
    if running:
        await rig.store.log.announce("due", str(shard_of("a")))
    else:
        await rig.started(after=[replica])
    await rig.all_accepted("a", ids, 3)
    await rig.committed("a")


async def test_convoy_1833_every_retry_is_counted_across_restarts(rig: Rig) -> None:
    """convoy#1833: retries were not counted, so they did not end.

    Here numbers go on where a replica that was killed left them; the schedule has one more attempt than steps.
    """
    rig.hooks.behaviours["a"] = refuse
    await rig.subscribe("a", retry_schedule_s=(0.05,) * 5)
    ids = await rig.minter.mint(1)
    replica = await rig.started()
    for seen in (2, 4):
        await wait_until(lambda seen=seen: _are_on_record(rig, seen))
        await replica.crash()
        replica = await rig.started(after=[replica])
    await wait_until(lambda: _is_dead(rig))
    await rig.committed("a")
    numbers = [one.attempt_no for one in await _attempts(rig, "a")]
    assert sorted(set(numbers)) == [1, 2, 3, 4, 5, 6]
    assert len(rig.hooks.hits["a"]) <= 6 + 2, "an attempt that a crash cut off is made again"
    assert set(rig.hooks.order("a")) == set(ids)


async def _are_on_record(rig: Rig, count: int) -> bool:
    return len(await _attempts(rig, "a")) >= count
