"""A store that has forgotten something: what is kept of the latest changes brings it back, or a gap is told."""

from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from relay.core.tail import Tail
from relay.poller import MAX_PAUSE_S
from relay.sources.base import Page
from tests.service.polling import PollRig, lab, later
from tests.service.test_poller_faults import ENDED, back_to, everything, fault
from tests.service.upstreams import NOW


async def lapse(client: Redis) -> None:
    """Let the lease run out: the next tick takes it again, under a new token."""
    await client.hdel("{relay}:lease", "source.lod")


async def test_a_tail_lost_while_the_lease_lapsed_comes_back(polls: PollRig, redis_client: Redis) -> None:
    """A new token begins a new fence, and the watermark did not move: still the lost page is minted again."""
    holder = polls.holder()
    polls.source.show(lab(1, 2))
    await holder.poll()
    before = await everything(redis_client)
    polls.source.pages = [Page([lab(1, 3)]), Page([])]
    fault(holder, {2}, executed=False)
    await holder.poll()
    (engaged,) = await polls.log()
    await back_to(redis_client, before)
    await lapse(redis_client)
    polls.source.show(lab(1, 4, **ENDED))
    await holder.poll()
    assert await polls.told() == [("lab.engaged", "1"), ("lab.completed", "1")]
    assert (await polls.log())[0].event_id == engaged.event_id


async def test_a_tail_that_cannot_be_minted_again_at_once_is_not_forgotten(polls: PollRig, redis_client: Redis) -> None:
    """The store fails in the middle of the repair: the next turn begins it anew."""
    holder = polls.holder()
    polls.source.show(lab(1, 2))
    await holder.poll()
    before = await everything(redis_client)
    polls.source.pages = [Page([lab(1, 3)]), Page([])]
    fault(holder, {2, 3}, executed=False)
    await holder.poll()
    await back_to(redis_client, before)
    await lapse(redis_client)
    polls.source.show(lab(1, 4, **ENDED))
    await holder.poll()
    assert await polls.told() == []
    await holder.poll()
    assert await polls.told() == [("lab.engaged", "1"), ("lab.completed", "1")]


async def test_a_lapsed_lease_is_no_reason_to_worry(polls: PollRig) -> None:
    """If nothing was lost, nothing is told again, whoever has gone on meanwhile, and the log is quiet."""
    first, second = polls.holder(), polls.holder()
    for status in (2, 3):
        polls.source.show(lab(1, status))
        await first.poll()
    second.leases.forget(["holder-1"])
    polls.source.show(lab(1, 50))
    await second.poll()
    await second.leases.leave()
    polls.source.show(lab(1, 4, **ENDED))
    with capture_logs() as lines:
        await first.poll()
    assert await polls.told() == [("lab.engaged", "1"), ("lab.submitted", "1"), ("lab.completed", "1")]
    assert [line["event"] for line in lines if line["log_level"] in ("warning", "error")] == []


@pytest.mark.parametrize("quiet", [{"End": 1_700_000_001}, {"activity": 100_000}])
async def test_a_change_without_an_event_is_a_link_of_the_chain(
    polls: PollRig, redis_client: Redis, quiet: dict[str, Any]
) -> None:
    """A change of `End` alone, or the daily refresh, lies between two events: both come back with their ids."""
    holder = polls.holder()
    polls.source.show(lab(1, 3, **ENDED))
    await holder.poll()
    before = await everything(redis_client)
    polls.source.show(lab(1, 3, **ENDED, ExamScore=5))
    await holder.poll()
    polls.clock.advance(90_000)
    polls.source.show(lab(1, 3, **{**ENDED, "ExamScore": 5, **quiet}))
    await holder.poll()
    polls.source.show(lab(1, 3, **{**ENDED, "ExamScore": 6, **quiet}))
    await holder.poll()
    ids = [entry.event_id for entry in await polls.log()]
    await back_to(redis_client, before)
    for _ in range(2):
        await holder.poll()
    assert [entry.event_id for entry in await polls.log()] == ids
    assert await polls.told() == [("lab.scored", "1"), ("lab.rescored", "1")]


async def test_a_tail_that_does_not_reach_back_far_enough_is_a_gap(polls: PollRig, redis_client: Redis) -> None:
    """What cannot be brought back is said: states in between may be missing from the last watermark on."""
    holder = polls.holder()
    holder.poller._writer._tail = Tail(max_changes=1)
    polls.source.show(lab(1, 2))
    await holder.poll()
    before = await everything(redis_client)
    for row in (lab(1, 3), lab(1, 50)):
        polls.source.show(row)
        await holder.poll()
    await back_to(redis_client, before)
    with capture_logs() as lines:
        for _ in range(3):
            await holder.poll()
    assert await polls.told() == [("relay.source.gap", "lod"), ("lab.submitted", "1")]
    assert (await polls.data())[0]["record"] == {
        "source": "lod",
        "from": "2026-11-21T17:00:30.250Z",
        "to": "2026-11-21T17:00:34.250Z",
    }
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["poll.not_restored"]


async def test_a_gap_that_the_store_has_forgotten_is_told_again(polls: PollRig, redis_client: Redis) -> None:
    """With the same id: it is the same gap."""
    holder = polls.holder()
    polls.source.show(lab(1))
    await holder.poll()
    before = await everything(redis_client)
    polls.source.show(lab(1), backfill=True, gap=(NOW, later(1)))
    await holder.poll()
    (gap,) = await polls.log()
    await back_to(redis_client, before)
    polls.source.show(lab(1), backfill=True, gap=(NOW, later(9)))
    for _ in range(3):
        await holder.poll()
    assert [entry.event_id for entry in await polls.log()] == [gap.event_id]


async def test_a_store_that_stays_away_is_asked_ever_more_rarely(polls: PollRig) -> None:
    """From a second to half a minute, counted from the end of the turn; one good turn, and it begins anew."""
    holder = polls.holder()
    await holder.leases.tick()
    token = holder.leases.source_token("lod")
    assert token is not None
    polls.source.show()
    fault(holder, {*range(1, 9), 10}, executed=False)
    pauses = []
    for _ in range(8):
        due = await holder.poller._turn(token)
        pauses.append(due - polls.clock.monotonic())
    for pause, least in zip(pauses, (1, 2, 4, 8, 16, 30, 30, 30), strict=True):
        assert least <= pause <= least * 1.2
    assert max(pauses) <= MAX_PAUSE_S * 1.2
    assert await holder.poller._turn(token) == polls.clock.monotonic() + polls.source.interval_s
    assert 1 <= await holder.poller._turn(token) - polls.clock.monotonic() <= 1.2
