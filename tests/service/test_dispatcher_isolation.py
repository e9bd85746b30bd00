"""An ailing subscriber is left alone, costs nothing, loses nothing, and never slows a healthy one."""

import asyncio
import time

import msgspec
import pytest

from relay.core.log import Attempt, Waiting
from relay.core.subscriber import Subscriber
from relay.store.keys import shard_of
from tests.helpers import wait_until
from tests.service.rig import Hit, Rig

BREAKER = True


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.core.breaker.Breaker.__init__.__defaults__", (0, None, False, 0.1))
    monkeypatch.setattr("relay.core.breaker.LONGEST_PAUSE_S", 0.4)


async def _refuse(_: Hit) -> int:
    return 500


async def _attempts(rig: Rig, name: str) -> list[Attempt]:
    groups = await rig.store.deliveries.attempts(shard_of(name), count=1000)
    return [attempt for _, group in groups for attempt in group if attempt.subscriber_id == name]


async def _state(rig: Rig, name: str) -> Subscriber:
    found = await rig.store.registry.get(name)
    assert found is not None
    return found


async def test_a_dead_subscriber_is_probed_one_at_a_time_and_gets_everything_when_it_is_back(rig: Rig) -> None:
    """Its backlog waits in the log; hardly any of it is attempted meanwhile, and none of it is lost."""
    await rig.subscribe("dead", max_in_flight=4, retry_schedule_s=(0.05,) * 20)
    await rig.started()
    rig.hooks.behaviours["dead"] = _refuse
    ids = await rig.minter.mint(300)
    await wait_until(lambda: len(rig.hooks.hits["dead"]) >= 7)
    await asyncio.sleep(0.3)
    assert len(rig.hooks.hits["dead"]) < 20
    del rig.hooks.behaviours["dead"]
    await rig.all_accepted("dead", ids)
    await rig.committed("dead")


async def test_a_resting_subscriber_holds_no_event_in_memory(rig: Rig) -> None:
    """What nobody attempts is read from the log again, however long its backlog grows."""
    await rig.subscribe("dead", max_in_flight=2)
    replica = await rig.started()
    rig.hooks.behaviours["dead"] = _refuse
    await rig.minter.mint(500)
    lane = replica.shards[shard_of("dead")].lanes["dead"]
    await wait_until(lambda: lane.resting)
    assert lane.queued <= 5


async def test_a_failed_probe_is_held_and_uses_up_no_schedule(rig: Rig) -> None:
    """The event at the head of the queue is tried again and again, with the same number, and does not die of it."""
    await rig.subscribe("dead", max_in_flight=1, retry_schedule_s=(3600,))
    await rig.started()
    rig.hooks.behaviours["dead"] = _refuse
    ids = await rig.minter.mint(8)

    async def held() -> bool:
        return sum(one.verdict == "held" for one in await _attempts(rig, "dead")) >= 3

    await wait_until(held)
    probes = {(one.event_id, one.attempt_no) for one in await _attempts(rig, "dead") if one.verdict == "held"}
    assert probes == {(ids[5], 1)}
    assert await rig.store.deliveries.dead("dead", 0, 10) == []
    del rig.hooks.behaviours["dead"]
    await wait_until(lambda: set(ids[5:]) <= rig.hooks.accepted["dead"].keys())


async def test_an_idle_backlog_costs_no_command(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it rests, the store hears of nothing but leases."""
    monkeypatch.setattr("relay.core.breaker.Breaker.__init__.__defaults__", (0, None, False, 3600.0))
    monkeypatch.setattr("relay.leases.TICK_S", 3600.0)
    monkeypatch.setattr("relay.dispatcher.tail.BLOCK_MS", 3000)
    await rig.subscribe("dead", max_in_flight=2, retry_schedule_s=(0.01,) * 50)
    await rig.started()
    rig.hooks.behaviours["dead"] = _refuse
    await rig.minter.mint(200)
    await wait_until(lambda: len(rig.hooks.hits["dead"]) >= 5)
    await asyncio.sleep(0.3)  # commits settle
    before = (await rig.store.client.info("stats"))["total_commands_processed"]
    await asyncio.sleep(1.0)
    after = (await rig.store.client.info("stats"))["total_commands_processed"]
    assert after - before <= 3


async def test_a_410_disables_at_once_and_says_so(rig: Rig) -> None:
    """Nothing more is sent, the event is not lost, and whoever listens to relay.* hears of it."""
    await rig.subscribe("watcher", event_types=("relay.*",))
    await rig.subscribe("gone", event_types=("lab.*",), max_in_flight=1)
    await rig.started()

    async def gone(_: Hit) -> int:
        return 410

    rig.hooks.behaviours["gone"] = gone
    ids = await rig.minter.mint(5)
    await wait_until(lambda: rig.hooks.accepted["watcher"])
    told = msgspec.json.decode(rig.hooks.hits["watcher"][0].body)
    assert told["type"] == "relay.subscriber.disabled"
    assert told["data"]["transition"] == {"from": "ok", "to": "disabled"}
    assert told["data"]["entity"] == {"kind": "subscriber", "id": "gone"}
    subscriber = await _state(rig, "gone")
    assert not subscriber.enabled
    assert subscriber.state.reason == "it answered 410 Gone"
    assert len(rig.hooks.hits["gone"]) <= 2
    del rig.hooks.behaviours["gone"]
    rig._subscribers["gone"] = subscriber
    await rig.change(msgspec.structs.replace(subscriber, enabled=True))
    await rig.all_accepted("gone", ids)


async def test_failing_is_told_before_disabling_and_recovery_after(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice before disabling (wanted in several): it comes first; the state is told as ok with the first success."""
    monkeypatch.setattr("tests.service.rig.NOTICE_AFTER_S", 0.2)
    await rig.subscribe("watcher", event_types=("relay.subscriber.*",))
    await rig.subscribe("flaky", event_types=("lab.*",), retry_schedule_s=(0.05,) * 50)
    await rig.started()
    rig.hooks.behaviours["flaky"] = _refuse
    await rig.minter.mint(3)
    await wait_until(lambda: len(rig.hooks.hits["watcher"]) == 1)
    del rig.hooks.behaviours["flaky"]
    await wait_until(lambda: len(rig.hooks.hits["watcher"]) == 2)
    told = [msgspec.json.decode(hit.body) for hit in rig.hooks.hits["watcher"]]
    assert [one["type"] for one in told] == ["relay.subscriber.failing", "relay.subscriber.recovered"]
    assert [one["data"]["sequence"] for one in told] == [1, 2]
    assert [one["data"]["transition"]["from"] for one in told] == ["ok", "failing"]


async def test_sustained_failure_disables_with_notice(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """outpost#596: only after notice, and only once a delivery went through its whole schedule in vain."""
    monkeypatch.setattr("tests.service.rig.NOTICE_AFTER_S", 0.0)
    monkeypatch.setattr("tests.service.rig.DISABLE_AFTER_S", 0.3)
    await rig.subscribe("watcher", event_types=("relay.subscriber.*",))
    await rig.subscribe("dead", event_types=("lab.*",), retry_schedule_s=(0.05,))
    await rig.started()
    rig.hooks.behaviours["dead"] = _refuse
    await rig.minter.mint(200)
    await wait_until(lambda: len(rig.hooks.hits["watcher"]) == 2, 10)
    told = [msgspec.json.decode(hit.body)["type"] for hit in rig.hooks.hits["watcher"]]
    assert told == ["relay.subscriber.failing", "relay.subscriber.disabled"]
    assert (await _state(rig, "dead")).state.status == "disabled"
    assert await rig.store.deliveries.dead("dead", 0, 10) != []


async def test_a_rate_is_kept(rig: Rig) -> None:
    """A rate limit that is stored and never enforced (svix).

    At twenty per second, fifty webhooks take at least a second and a half (one second's worth goes at once).
    """
    await rig.subscribe("slow", rate_per_s=20.0, max_in_flight=8)
    await rig.started()
    started = time.monotonic()
    ids = await rig.minter.mint(50)
    await rig.all_accepted("slow", ids)
    assert time.monotonic() - started >= 1.45


async def test_fifty_dead_subscribers_do_not_delay_a_healthy_one(rig: Rig) -> None:
    """convoy#1926: the healthy one gets everything while the others fail."""
    for number in range(50):
        await rig.subscribe(f"dead-{number}", retry_schedule_s=(0.05,) * 20)
        rig.hooks.behaviours[f"dead-{number}"] = _refuse
    await rig.subscribe("healthy")
    await rig.started()
    ids = await rig.minter.mint(200)
    await rig.all_accepted("healthy", ids, 5)


async def test_subscribers_in_doubt_share_a_few_attempts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many fail at once, after their first attempts they have so many per second between them, in turn."""
    monkeypatch.setattr("relay.dispatcher.workers.TRIALS_PER_S", 20.0)
    names = [f"dead-{number}" for number in range(40)]
    all_came = asyncio.Event()

    async def refuse_together(_: Hit) -> int:
        await all_came.wait()
        return 500

    for name in names:
        await rig.subscribe(name, retry_schedule_s=(3600,))
        rig.hooks.behaviours[name] = refuse_together
    await rig.started()
    await rig.minter.mint(20)
    await wait_until(lambda: all(rig.hooks.hits[name] for name in names))
    started = time.monotonic()
    all_came.set()
    await wait_until(lambda: sum(len(rig.hooks.hits[name]) for name in names) >= 60)
    took = time.monotonic() - started
    hits = [len(rig.hooks.hits[name]) for name in names]
    assert took >= (60 - 40 - 5) / 20
    assert max(hits) <= 3, "who fails first may ask twice before the last one has failed"


async def test_however_many_hang_something_is_left_for_the_healthy(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty subscribers that never answer, each with room for more than everybody's share, take not all of it."""
    monkeypatch.setattr("relay.dispatcher.workers.CAPACITY", 40)
    never = asyncio.Event()

    async def hang(_: Hit) -> int:
        await never.wait()
        return 200

    for number in range(20):
        await rig.subscribe(f"hangs-{number}", max_in_flight=256, timeout_s=20.0)
        rig.hooks.behaviours[f"hangs-{number}"] = hang
    await rig.subscribe("healthy")
    await rig.started()
    ids = await rig.minter.mint(100)
    await rig.all_accepted("healthy", ids, 5)
    never.set()


async def test_a_change_while_a_probe_is_out_loses_no_event(rig: Rig) -> None:
    """The subscriber is changed before a probe fails, and others overtake it: its event is made again all the same."""
    changed = asyncio.Event()
    failed: list[str] = []
    probe: list[str] = []

    async def behave(hit: Hit) -> int:
        if lane.breaker.probing and not probe:
            probe.append(hit.event_id)
            await changed.wait()
            return 500
        if not probe:
            failed.append(hit.event_id)
        return 200 if probe else 500

    subscriber = await rig.subscribe("a", max_in_flight=2, retry_schedule_s=(3600,))
    replica = await rig.started()
    lane = replica.shards[shard_of("a")].lanes["a"]
    lane.window.size = 256  # it has been well for long
    rig.hooks.behaviours["a"] = behave
    ids = await rig.minter.mint(60)
    try:
        await wait_until(lambda: len(probe) == 1)
        await rig.change(msgspec.structs.replace(subscriber, headers={"X-Mended": "yes"}))
        await wait_until(lambda: len(rig.hooks.accepted["a"]) >= 10)
    finally:
        changed.set()
    await wait_until(lambda: set(ids) - set(failed) <= rig.hooks.accepted["a"].keys(), 8)


async def test_a_backlog_of_hanging_subscribers_does_not_keep_anothers_retry_waiting(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """convoy#1926: twelve in one shard, each with more due retries than its share, and one that is well."""
    monkeypatch.setattr("relay.dispatcher.retries.MAX_CLAIMED", 1000)
    never = asyncio.Event()

    async def hang(_: Hit) -> int:
        await never.wait()
        return 200

    names = [name for name in (f"s{at}" for at in range(5000)) if shard_of(name) == 3][:13]
    healthy = names.pop()
    for name in names:
        await rig.subscribe(name, timeout_s=15.0)
        rig.hooks.behaviours[name] = hang
    await rig.subscribe(healthy)
    replica = await rig.started()
    ids = await rig.minter.mint(120)
    await rig.all_accepted(healthy, ids)
    places = [entry.place for entry in await rig.store.log.before(None, 120)]
    for name in names:
        await rig.store.client.zadd("{relay}:rq:3", {str(Waiting(name, place, 1)): 1 for place in places})
    await rig.store.log.announce("due", "3")
    await wait_until(lambda: len(replica.shards[3].claimed) >= 12)
    before = rig.hooks.accepted[healthy][ids[0]]
    now_ms = await rig.store.deliveries.now_ms()
    await rig.store.client.zadd("{relay}:rq:3", {str(Waiting(healthy, places[-1], 2)): now_ms})
    await rig.store.log.announce("due", "3")
    try:
        await wait_until(lambda: rig.hooks.accepted[healthy][ids[0]] > before, 20)
    finally:
        never.set()
