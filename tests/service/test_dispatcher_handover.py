"""Several dispatchers, replicas of the store, and numbers: nothing is lost on the way from one to the other."""

import asyncio
import dataclasses
from collections import Counter

import msgspec
import pytest

from relay.core.log import Waiting
from relay.store.deliveries import SHARD_CURSOR, Group
from relay.store.keys import SHARDS, shard_of
from tests.helpers import wait_until
from tests.service.rig import Hit, Rig, refuse

NAMES = [f"s{number}" for number in range(12)]


async def test_two_dispatchers_share_and_hand_over(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds half of the shards; when one leaves, in an orderly way, nothing is lost and nothing sent twice."""
    monkeypatch.setattr("relay.leases.TICK_S", 0.4)  # until the next tick its holder may still commit

    async def slowly(_: Hit) -> int:
        await asyncio.sleep(0.01)
        return 200

    for name in NAMES:
        rig.hooks.behaviours[name] = slowly
        await rig.subscribe(name, max_in_flight=2)
    first = await rig.started()
    ids = await rig.minter.mint(20)
    second = await rig.replica()
    second.start()
    await wait_until(lambda: len(first.shards) == len(second.shards) == SHARDS // 2, what="they share")
    ids += await rig.minter.mint(20)
    await asyncio.sleep(0.05)
    await first.leave()
    ids += await rig.minter.mint(20)
    await second.ready()
    for name in NAMES:
        await rig.all_accepted(name, ids)
    await rig.committed(*NAMES)
    for name in NAMES:
        assert Counter(ids) == rig.hooks.accepted[name]


async def test_a_crash_of_one_of_two_loses_nothing(rig: Rig) -> None:
    """Half of the shards change hands without a word: everything arrives, with the same ids."""
    for name in NAMES:
        await rig.subscribe(name)
    first = await rig.started()
    second = await rig.replica()
    second.start()
    await wait_until(lambda: len(second.shards) == SHARDS // 2)
    ids = await rig.minter.mint(100)
    await wait_until(lambda: any(rig.hooks.accepted.values()))
    await first.crash()
    ids += await rig.minter.mint(100)
    second.leases.forget([first.owner])
    await second.ready()
    for name in NAMES:
        await rig.all_accepted(name, ids)


async def test_a_replica_behind_the_former_holder_repeats_nothing(rig: Rig) -> None:
    """A successor that has read less of the log than the former holder neither repeats nor forgets what lies between.

    Nor does the shard's cursor go back.
    """
    await rig.subscribe("a")
    first = await rig.started()
    second = await rig.replica()
    waited = second.store.log.wait
    blind = asyncio.Event()

    async def wait(*args: object, **kwargs: object) -> object:
        await blind.wait()
        return await waited(*args, **kwargs)  # type: ignore[arg-type]  # passed through

    second.store.log.wait = wait  # type: ignore[assignment,method-assign]  # it reads nothing for a while
    second.start()
    await wait_until(lambda: len(second.shards) == SHARDS // 2)
    ids = await rig.minter.mint(10)
    number = shard_of("a")
    if number in second.shards:
        second, first = first, second
    await first.leave()
    blind.set()
    await rig.all_accepted("a", ids)
    ids += await rig.minter.mint(10)
    await rig.all_accepted("a", ids)
    await rig.committed("a")
    assert Counter(ids) == rig.hooks.accepted["a"]


async def test_a_tail_behind_the_cursors_waits_for_them(rig: Rig) -> None:
    """While a replica's tail lies before the stored cursors no lane is live, and no cursor is moved back."""
    await rig.subscribe("a")
    ids = await rig.minter.mint(10)
    replica = await rig.replica()
    end = await rig.store.log.end()
    entries = await rig.store.log.before(None, 10)
    number = shard_of("a")
    await rig.store.leases._client.hset(f"{{relay}}:cur:{number}", SHARD_CURSOR, str(end))
    await rig.store.leases._client.hdel(f"{{relay}}:cur:{number}", "a")
    await rig.expect_from_now("a")
    asked, waited, blind = replica.store.log.extent, replica.store.log.wait, asyncio.Event()

    async def behind(*args: object) -> object:
        replica.store.log.extent = asked  # type: ignore[method-assign]  # once only
        return dataclasses.replace(await asked(*args), end=entries[5].place)  # type: ignore[arg-type]  # passed through

    async def wait(*args: object, **kwargs: object) -> object:
        await blind.wait()
        return await waited(*args, **kwargs)  # type: ignore[arg-type]  # passed through

    replica.store.log.extent = behind  # type: ignore[assignment,method-assign]  # it started before the latest events
    replica.store.log.wait = wait  # type: ignore[assignment,method-assign]  # and reads nothing for a while
    replica.start()
    await replica.ready()
    await asyncio.sleep(0.05)
    assert not replica.shards[number].lanes["a"].live
    assert (await rig.store.deliveries.cursors(number))[SHARD_CURSOR] == end
    blind.set()
    await wait_until(lambda: replica.dispatcher._board.tail == end)
    more = await rig.minter.mint(3)
    await rig.all_accepted("a", more)
    await rig.committed("a")
    assert rig.hooks.accepted["a"].keys() & set(ids) == set()


async def test_lanes_that_are_fed_together_all_get_what_came_meanwhile(rig: Rig) -> None:
    """Two lanes at the same place share one reading of the log; what is minted while it is read reaches both."""
    names = [f"n{at}" for at in range(1000) if shard_of(f"n{at}") == shard_of("a")][:3]
    for name in names:
        await rig.subscribe(name)
    ids = await rig.minter.mint(10)
    replica = await rig.replica()
    read = replica.store.log.after

    async def after(*args: object) -> object:
        found = await read(*args)  # type: ignore[arg-type]  # passed through
        if len(ids) < 40:
            ids.extend(await rig.minter.mint(10))
            end = await rig.store.log.end()
            await wait_until(lambda: replica.dispatcher._board.tail == end)
        return found

    replica.store.log.after = after  # type: ignore[assignment,method-assign]  # the log grows while it is read
    replica.start()
    await replica.ready()
    await wait_until(lambda: len(ids) >= 40)
    for name in names:
        await rig.all_accepted(name, ids)
    await rig.committed(*names)


async def test_a_lane_that_was_told_nothing_learns_of_changes_with_the_next_take_up(rig: Rig) -> None:
    """Messages may be lost with a store that has fallen back; the registry is read again then, for open lanes too."""
    changed, gone = await rig.subscribe("a"), await rig.subscribe("b")
    replica = await rig.started()
    await rig.store.client.hset(
        "{relay}:sub", "a", msgspec.json.encode(msgspec.structs.replace(changed, enabled=False))
    )
    await rig.store.client.hdel("{relay}:sub", gone.id)
    await replica.dispatcher._holdings.begin()
    assert not replica.shards[shard_of("a")].lanes["a"].receiver.subscriber.enabled
    assert "b" not in replica.shards[shard_of("b")].lanes


async def test_thousands_of_events_reach_every_subscriber(rig: Rig) -> None:
    """5,000 events for three subscribers: each gets all of them, once."""
    names = NAMES[:3]
    for name in names:
        await rig.subscribe(name, max_in_flight=64)
    await rig.started()
    ids = await rig.minter.mint(5000)
    for name in names:
        await rig.all_accepted(name, ids, 60)
    await rig.committed(*names)
    for name in names:
        assert Counter(ids) == rig.hooks.accepted[name]


async def test_thousands_of_retries_due_at_once_are_all_made(rig: Rig) -> None:
    """2,000 retries of one subscriber are worked off, once each; another one's retry does not wait behind them all."""
    await rig.subscribe("a", max_in_flight=64)
    await rig.subscribe("b", retry_schedule_s=(0.1,))
    ids = await rig.minter.mint(2000)
    entries = await rig.store.log.before(None, 2000)
    number = shard_of("a")
    held = await rig.store.leases.tick("gone", "deliver", (), [number], ttl_ms=60_000)
    group = Group(cursors={"a": entries[0].place}, due={str(Waiting("a", one.place, 2)): 1 for one in entries})
    await rig.store.deliveries.commit(number, held.tokens[f"shard.{number}"], 1, group, 0)
    replica = await rig.replica()
    replica.leases.forget(["gone"])
    replica.start()
    await rig.all_accepted("a", ids, 30)
    await rig.all_accepted("b", ids, 30)
    await rig.committed("a")
    assert Counter(ids) == rig.hooks.accepted["a"]


async def test_a_dead_subscribers_retries_do_not_hold_up_anothers(rig: Rig) -> None:
    """Retries that wait for a subscriber which answers nothing leave room for those of its neighbour in the shard."""
    dead = next(f"d{n}" for n in range(10_000) if shard_of(f"d{n}") == shard_of("a"))
    never = asyncio.Event()

    async def hang(_: Hit) -> int:
        await never.wait()
        return 200

    rig.hooks.behaviours[dead] = hang
    await rig.subscribe(dead, max_in_flight=2, timeout_s=30)
    await rig.subscribe("a")
    ids = await rig.minter.mint(1200)
    number = shard_of("a")
    entries = await rig.store.log.before(None, 1200)
    held = await rig.store.leases.tick("gone", "deliver", (), [number], ttl_ms=60_000)
    due = {str(Waiting(dead, one.place, 2)): 1 for one in entries}
    due[str(Waiting("a", entries[0].place, 2))] = 2
    group = Group(cursors={"a": entries[0].place, dead: entries[0].place}, due=due)
    await rig.expect_from_now("a")
    await rig.store.deliveries.commit(number, held.tokens[f"shard.{number}"], 1, group, 0)
    replica = await rig.replica()
    replica.leases.forget(["gone"])
    replica.start()
    await rig.all_accepted("a", ids[-1:], 10)
    never.set()


async def test_a_dead_subscriber_costs_the_log_only(rig: Rig) -> None:
    """While everything is refused the cursor moves on, and each delivery stands once among the retries."""
    rig.hooks.behaviours["a"] = refuse
    await rig.subscribe("a", retry_schedule_s=(60,))
    await rig.started()
    await rig.minter.mint(50)

    async def parked() -> bool:
        return len(await rig._waiting("a")) == 50 and await rig._cursor("a") >= await rig.store.log.end()

    await wait_until(parked)


@pytest.mark.parametrize("attempt_no", [1, 2])
async def test_what_is_under_way_when_a_drain_ends_is_not_sent_beside_itself(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, attempt_no: int
) -> None:
    """The successor finds it among the retries, due once the attempt can have ended."""
    monkeypatch.setattr("relay.dispatcher.shard.PARK_MARGIN_S", 0.0)
    release = asyncio.Event()

    async def hang(_: Hit) -> int:
        if len(rig.hooks.hits["a"]) < attempt_no:
            return 500
        if len(rig.hooks.hits["a"]) == attempt_no:
            await release.wait()
        return 200

    rig.hooks.behaviours["a"] = hang
    await rig.subscribe("a", timeout_s=1.0)
    first = await rig.started()
    ids = await rig.minter.mint(1)
    await wait_until(lambda: len(rig.hooks.hits["a"]) == attempt_no)
    await first.dispatcher.drain(0.05)
    await first.leases.leave()
    await first.crash()
    second = await rig.started(after=[first])
    ids += await rig.minter.mint(1)
    await rig.all_accepted("a", ids[1:])
    assert rig.hooks.order("a") == [ids[0]] * attempt_no + ids[1:]
    release.set()
    await rig.all_accepted("a", ids)
    assert second.shards
