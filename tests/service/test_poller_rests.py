"""Between polls: when the next one is expected, asked for, or not wanted by the upstream."""

from datetime import timedelta

from relay.core.errors import FetchError
from relay.core.events import rfc3339
from relay.sources.base import Page
from tests.helpers import wait_until
from tests.service.polling import PollRig, lab, later
from tests.service.upstreams import NOW


async def test_the_status_says_when_the_next_poll_begins(polls: PollRig) -> None:
    """An interval after the last one began; after failures later, and after Retry-After later still."""
    polls.source.interval_s = 30
    holder = polls.holder()
    polls.source.show(lab(1))
    await holder.poll()
    status = await polls.status()
    assert (status["next_poll_at"], status["wait_until"]) == (rfc3339(NOW + timedelta(seconds=30)), None)
    polls.source.pages = [FetchError("rate_limited", "too many requests", retry_after_s=500)]
    await holder.poll()
    status = await polls.status()
    assert status["next_poll_at"] == status["wait_until"] == rfc3339(later(501))
    polls.source.pages = [FetchError("timeout", "no answer")]
    await holder.poll()
    status = await polls.status()
    assert (status["wait_until"], status["next_poll_at"] > rfc3339(later(62))) == (None, True)
    polls.source.show(lab(1))
    await holder.poll()
    assert (await polls.status())["next_poll_at"] == rfc3339(later(33))


async def test_retry_after_counts_from_the_answer(polls: PollRig) -> None:
    """An upstream that answers late is left alone for as long as it asked for, not for the rest of it."""
    holder = polls.holder()
    polls.source.interval_s = 30

    async def slow(_: object) -> object:
        polls.clock.advance(20)
        raise FetchError("rate_limited", "too many requests", retry_after_s=100)

    holder.poller._poll = lambda: slow(None)  # type: ignore[assignment,return-value]  # a poll of twenty seconds
    await holder.leases.tick()
    token = holder.leases.source_token("lod")
    assert token is not None
    assert await holder.poller._turn(token) == 120


async def test_whoever_asks_for_a_poll_waits_as_long_as_the_upstream_asks(polls: PollRig) -> None:
    """Asking cuts the interval and our own backing off short, but not Retry-After."""
    polls.source.interval_s = 3600
    polls.source.pages = [FetchError("rate_limited", "too many requests", retry_after_s=500)]
    holder = polls.holder()
    async with holder.running():
        await wait_until(lambda: len(polls.source.polls) == 1)
        await wait_until(lambda: holder.poller._rest.not_before > 0)
        polls.source.show(lab(1))
        for _ in range(3):
            holder.poller.poll_now()
            for _ in range(5):
                await holder.leases.tick()
        assert len(polls.source.polls) == 1
        polls.clock.advance(501)
        holder.poller.poll_now()
        await wait_until(lambda: len(polls.source.polls) == 2)
        polls.source.pages = [FetchError("timeout", "no answer")]
        holder.poller.poll_now()
        await wait_until(lambda: len(polls.source.polls) == 3)
        await wait_until(lambda: holder.poller._health.failures == 1)
        holder.poller.poll_now()
        await wait_until(lambda: len(polls.source.polls) == 4)


async def test_a_successor_waits_as_long_as_the_upstream_asked(polls: PollRig) -> None:
    """What the upstream asked for is on record: a change of holders does not hurry it."""
    first = polls.holder()
    polls.source.pages = [FetchError("rate_limited", "too many requests", retry_after_s=500)]
    await first.poll()
    await first.leases.leave()
    polls.source.show(lab(1))
    second = polls.holder()
    await second.poll()
    assert len(polls.source.polls) == 1
    polls.clock.advance(500)
    await second.poll()
    assert len(polls.source.polls) == 2


async def test_rows_that_were_kept_out_are_sampled_over_all_pages(polls: PollRig) -> None:
    """The status has a few of them, with the entity's id and without any value."""
    holder = polls.holder()
    bad = lab(7, ExamScore="ann@example.org")
    polls.source.pages = [Page([lab(1), bad]), Page([lab(8, ClassId={"name": "ann"})])]
    await holder.poll()
    status = await polls.status()
    assert [(one["entity_id"], one["field"]) for one in status["invalid_samples"]] == [
        ("7", "ExamScore"),
        ("8", "ClassId"),
    ]
    assert "ann" not in str(status)
    polls.source.show(lab(1))
    await holder.poll()
    assert (await polls.status())["invalid_samples"] == []
