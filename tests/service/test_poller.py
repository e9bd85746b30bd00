"""The poller: what an upstream shows becomes events, once, and the watermark moves when everything is written."""

import threading
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from relay.core.errors import FetchError
from relay.core.events import rfc3339
from relay.core.lab import LabFamily
from relay.core.model import View
from relay.sandbox import LOD_API_KEY, Sandbox
from relay.sources.base import Page
from relay.sources.http import Pacer
from relay.sources.lod import LodSource
from tests.helpers import wait_until
from tests.service.polling import Holder, PollRig, ScriptedSource, lab, later
from tests.service.upstreams import NOW

DAY_S = 86_400


async def test_the_first_poll_is_a_silent_baseline(polls: PollRig) -> None:
    """What exists already makes no event; what changes from then on does."""
    holder = polls.holder()
    polls.source.show(lab(1), lab(2))
    await holder.poll()
    assert await polls.told() == []
    assert await polls.watermark() == NOW
    polls.source.show(lab(1, 4, End=1_700_000_000), lab(2), lab(3, 2))
    await holder.poll()
    assert await polls.told() == [("lab.completed", "1"), ("lab.started", "3")]
    (completed, started) = await polls.data()
    assert (completed["sequence"], completed["transition"]) == (1, {"from": "Incomplete", "to": "Complete"})
    assert (completed["backfill"], started["first_seen"]) == (False, True)


async def test_emit_marks_what_existed_already(polls: PollRig) -> None:
    """With `first_poll = "emit"` the first poll's events are there, and say that they are catching up."""
    holder = polls.holder(emit_first=True)
    polls.source.show(lab(1), lab(2, 4, End=1_700_000_000))
    await holder.poll()
    assert await polls.told() == [("lab.started", "1"), ("lab.completed", "2")]
    assert all(data["backfill"] and data["first_seen"] for data in await polls.data())
    polls.source.show(lab(3))
    await holder.poll()
    assert [data["backfill"] for data in await polls.data()] == [True, True, False]


async def test_an_unchanged_poll_writes_no_event(polls: PollRig) -> None:
    """Seeing the same again is no news, however often."""
    holder = polls.holder(emit_first=True)
    polls.source.show(lab(1))
    for _ in range(4):
        await holder.poll()
    assert len(await polls.told()) == 1
    assert await polls.watermark() == later(3)


async def test_a_failed_poll_moves_nothing(polls: PollRig) -> None:
    """Pages that came before a fault are kept, but the next poll asks from the old watermark."""
    holder = polls.holder()
    polls.source.show(lab(1))
    await holder.poll()
    polls.source.pages = [Page([lab(2)]), FetchError("timeout", "no answer")]
    await holder.poll()
    assert await polls.told() == [("lab.started", "2")]
    assert await polls.watermark() == NOW
    polls.source.show(lab(2), lab(3))
    await holder.poll()
    assert polls.source.polls == [None, NOW, NOW]
    assert await polls.told() == [("lab.started", "2"), ("lab.started", "3")]


async def test_an_answer_is_as_old_as_its_request(polls: PollRig) -> None:
    """`observed.after` is the time before the page was asked for, `observed.at` that of its arrival."""

    class Slow(ScriptedSource):
        async def poll(self, watermark: datetime | None) -> AsyncIterator[Page]:
            async for page in super().poll(watermark):
                self._clock.advance(5)
                yield page

    polls.source = Slow(polls.clock)
    holder = polls.holder()
    for status in (2, 3):
        polls.source.pages = [Page([lab(7)]), Page([lab(1, status)])]
        await holder.poll()
    (engaged,) = await polls.data()
    assert engaged["observed"] == {"after": rfc3339(later(5)), "at": rfc3339(later(21))}


async def test_many_entities_are_read_beside_the_event_loop(polls: PollRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacking tens of thousands of snapshots would keep every lease and delivery waiting."""
    monkeypatch.setattr("relay.poller.OFF_LOOP_ENTITIES", 1)
    threads = []

    class Watched(LabFamily):
        def view(self, values: Sequence[Any]) -> View:
            threads.append(threading.current_thread())
            return super().view(values)

    polls.source.show(lab(1), lab(2))
    first = polls.holder()
    await first.poll()
    await first.leases.leave()
    monkeypatch.setattr(polls.source, "family", Watched())
    polls.source.show()
    holder = polls.holder()
    await holder.poll()
    assert len(threads) == 2
    assert threading.main_thread() not in threads


async def test_entities_that_nobody_has_seen_for_long_are_forgotten(polls: PollRig) -> None:
    """Past the retention an ended entity goes, and an open one stays four times as long."""
    holder = polls.holder(keep_entities_s=10 * DAY_S)
    polls.source.show(lab(1, 4, End=1_700_000_000), lab(2))
    await holder.poll()
    polls.source.show()
    polls.clock.advance(9 * DAY_S)
    await holder.poll()
    assert len(await polls.store.snapshots.load("lod")) == 2
    polls.clock.advance(2 * DAY_S)
    await holder.poll()
    assert (await polls.store.snapshots.load("lod")).keys() == {"2"}
    polls.clock.advance(30 * DAY_S)
    await holder.poll()
    assert await polls.store.snapshots.load("lod") == {}
    assert await polls.told() == []


async def test_a_row_that_is_older_than_what_is_known_is_ignored(polls: PollRig) -> None:
    """A stale answer makes no event, until it has come three times."""
    holder = polls.holder()
    polls.source.show(lab(1, 4, activity=200, End=1_700_000_000))
    await holder.poll()
    polls.source.show(lab(1, 3, activity=100))
    for _ in range(2):
        await holder.poll()
        assert (await polls.status())["older_rows"] == 1
    assert await polls.told() == []
    await holder.poll()
    assert await polls.told() == [("lab.reopened", "1")]


async def test_a_bad_row_keeps_nobody_else_back(polls: PollRig) -> None:
    """A row that cannot be read is counted and left out; the rest of the page goes on."""
    holder = polls.holder(emit_first=True)
    polls.source.show(lab(1), b'{"LabInstanceId": 2}', lab(3))
    await holder.poll()
    assert await polls.told() == [("lab.started", "1"), ("lab.started", "3")]
    assert sum((await polls.status())["invalid_rows"].values()) == 1


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Provide a simulated LOD."""
    running = await Sandbox.start()
    running.lod.selection = "any_state_change"
    yield running
    await running.stop()


async def test_a_lab_of_the_simulated_lod_is_followed_in_the_loop(
    polls: PollRig, redis_client: Redis, sandbox: Sandbox
) -> None:
    """Over HTTP and in its own loop: each change that a poll can see arrives, and `poll now` does not wait."""
    async with aiohttp.ClientSession() as session:
        source = LodSource(
            "lod",
            family=LabFamily(),
            session=session,
            clock=sandbox.clock,
            base_url=sandbox.lod_url,
            api_key=LOD_API_KEY,
            interval_s=3600,
        )
        source._pacer = Pacer(1000, 1.0)
        holder = Holder(polls, redis_client, "h", source, sandbox.clock)

        async def seen(count: int) -> None:
            async def enough() -> bool:
                holder.poller.poll_now()
                return len(await polls.told()) >= count

            await wait_until(enough)

        sandbox.lod.put(1, CompletionStatus=2)
        async with holder.running():
            await wait_until(lambda: len(sandbox.lod.requests) == 1)
            await wait_until(polls.watermark)
            changes: list[dict[str, Any]] = [{"CompletionStatus": 3}, {"CompletionStatus": 4, "End": "now"}]
            for count, fields in enumerate(changes, 1):
                sandbox.advance(5)
                sandbox.lod.put(1, **fields)
                await seen(count)
    assert await polls.told() == [("lab.engaged", "1"), ("lab.completed", "1")]


async def test_the_time_between_polls_is_kept(polls: PollRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a tick nor a change of other leases makes a poll come early; a wake-up does."""
    monkeypatch.setattr("relay.leases.TICK_S", 0.005)
    polls.source.interval_s = 3600
    holder = polls.holder()
    async with holder.running():
        await wait_until(lambda: len(polls.source.polls) == 1)
        for _ in range(5):
            changed = holder.leases.changed
            holder.leases._replace({**holder.leases._held, "shard.9": holder.leases._held["source.lod"]})
            await wait_until(changed.is_set)
        assert len(polls.source.polls) == 1
        holder.poller.poll_now()
        await wait_until(lambda: len(polls.source.polls) == 2)


async def test_a_wake_up_during_a_poll_is_not_lost(polls: PollRig) -> None:
    """Whoever asks for a poll while one is under way gets another one."""
    polls.source.interval_s = 3600
    polls.source.show()
    holder = polls.holder()
    poll = holder.poller._poll

    async def asked_meanwhile() -> None:
        await poll()
        if len(polls.source.polls) == 1:
            holder.poller.poll_now()

    holder.poller._poll = asked_meanwhile  # type: ignore[method-assign]  # between fetch and rest
    async with holder.running():
        await wait_until(lambda: len(polls.source.polls) == 2)


async def test_a_pause_past_the_lease_does_not_end_polling(polls: PollRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was frozen, and gets the same lease back, polls again by itself."""
    monkeypatch.setattr("relay.leases.TICK_S", 0.02)
    polls.source.interval_s = 1
    holder = polls.holder()
    async with holder.running():
        await wait_until(lambda: len(polls.source.polls) == 1)
        for _ in range(3):
            count = len(polls.source.polls)
            polls.clock.passed_s += 7
            polls.clock.at += timedelta(seconds=7)
            holder.poller.poll_now()  # it looks at its lease before the next tick does
            await wait_until(lambda: len(polls.source.polls) > count)  # noqa: B023 - awaited here
