"""What the poller tells about its source: each outage and each gap once, whoever holds it, and the log says it too."""

from structlog.testing import capture_logs

from relay.core.errors import FetchError
from relay.core.events import rfc3339
from relay.sources.base import Page
from tests.service.polling import PollRig, lab, later
from tests.service.upstreams import NOW


async def test_degraded_and_recovered_are_told_once_each(polls: PollRig) -> None:
    """After three failures in a row, and at the first success after that; not again in between."""
    holder = polls.holder()
    polls.source.pages = [FetchError("http_status", "503")]
    for expected in ("failing", "failing", "degraded", "degraded", "degraded"):
        await holder.poll()
        assert (await polls.status())["status"] == expected
    assert [kind for kind, _ in await polls.told()] == ["relay.source.degraded"]
    polls.source.show()
    await holder.poll()
    await holder.poll()
    assert [kind for kind, _ in await polls.told()] == ["relay.source.degraded", "relay.source.recovered"]
    assert (await polls.status())["status"] == "ok"


async def test_a_successor_tells_degraded_no_second_time(polls: PollRig) -> None:
    """What was told stands in the store, so another replica knows it, and tells the recovery."""
    first, second = polls.holder(), polls.holder()
    polls.source.pages = [FetchError("http_status", "503")]
    for _ in range(3):
        await first.poll()
    await first.leases.leave()
    await second.poll()
    polls.source.show()
    await second.poll()
    assert [kind for kind, _ in await polls.told()] == ["relay.source.degraded", "relay.source.recovered"]


async def test_a_gap_is_told_once(polls: PollRig) -> None:
    """A poll that meets a gap and fails half-way meets it again, and does not tell it again."""
    holder = polls.holder()
    polls.source.show(lab(1))
    await holder.poll()
    for edge in (10, 20):
        gap = (NOW, later(edge))
        polls.source.pages = [Page([lab(2)], backfill=True, gap=gap), FetchError("timeout", "no answer")]
        await holder.poll()
    polls.source.pages = [Page([lab(2)], backfill=True, gap=(NOW, later(30))), Page([lab(3)])]
    await holder.poll()
    assert [kind for kind, _ in await polls.told()] == ["relay.source.gap", "lab.started", "lab.started"]
    assert (await polls.data())[0]["record"]["to"] == "2026-11-21T17:00:40.250Z"


async def test_a_successor_tells_no_gap_a_second_time(polls: PollRig) -> None:
    """Which gap was told of stands in the store, together with the event."""
    first, second = polls.holder(), polls.holder()
    polls.source.show(lab(1))
    await first.poll()
    polls.source.pages = [Page([], backfill=True, gap=(NOW, later(10))), FetchError("timeout", "no answer")]
    await first.poll()
    await first.leases.leave()
    polls.source.pages = [Page([], backfill=True, gap=(NOW, later(20))), Page([])]
    await second.poll()
    polls.source.pages = [Page([], backfill=True, gap=(later(5), later(20))), Page([])]
    await second.poll()
    assert [data["record"]["from"] for data in await polls.data()] == [rfc3339(NOW), rfc3339(later(5))]


async def test_two_outages_are_told_with_four_ids(polls: PollRig) -> None:
    """Each says since when, at its beginning and at its end."""
    holder = polls.holder()
    for _ in range(2):
        polls.source.pages = [FetchError("http_status", "503")]
        for _ in range(3):
            await holder.poll()
        polls.source.show()
        await holder.poll()
    assert len({entry.event_id for entry in await polls.log()}) == 4
    assert [data["changes"]["failing_since"]["from"] for data in await polls.data()] == [
        None,
        rfc3339(NOW),
        None,
        rfc3339(later(4)),
    ]


async def test_the_log_tells_what_the_subscribers_are_told(polls: PollRig) -> None:
    """With the weight that it has; a poll that brings nothing is not worth a line at the usual level."""
    holder = polls.holder()
    with capture_logs() as lines:
        polls.source.pages = [FetchError("http_status", "503")]
        for _ in range(3):
            await holder.poll()
        polls.source.show(lab(1), gap=(NOW, later(1)))
        await holder.poll()
        polls.source.show(lab(1, 4, End=1_700_000_000))
        await holder.poll()
    found = [(line["event"], line["log_level"]) for line in lines if line["event"].startswith(("source.", "poll.done"))]
    assert found == [
        ("source.degraded", "warning"),
        ("source.gap", "error"),
        ("source.recovered", "info"),
        ("poll.done", "debug"),
        ("poll.done", "info"),
    ]
