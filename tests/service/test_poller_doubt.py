"""Implausibly many changes wait for a second poll; nothing waits for ever."""

from relay.core.doubt import MAX_HOLDS
from relay.core.errors import FetchError
from tests.service.polling import PollRig, lab, later
from tests.service.upstreams import NOW

MANY = 150
GOOD = [lab(number) for number in range(MANY)]
ENDED = [lab(number, 4, End=1_700_000_000) for number in range(MANY)]
CANCELLED = [lab(number, 1) for number in range(MANY)]


async def test_an_implausible_change_is_held_back_for_one_poll(polls: PollRig) -> None:
    """When a great part of all entities changes at once, nothing is written until the next poll says the same."""
    holder = polls.holder()
    polls.source.show(*GOOD)
    await holder.poll()
    polls.source.show(*ENDED)
    await holder.poll()
    assert await polls.told() == []
    assert await polls.watermark() == NOW
    status = await polls.status()
    assert (status["status"], status["held_back"]) == ("ok", MANY)
    await holder.poll()
    assert len(await polls.told()) == MANY
    assert await polls.watermark() == later(2)
    assert (await polls.status())["held_back"] == 0


async def test_a_passing_folly_of_the_upstream_leaves_no_trace(polls: PollRig) -> None:
    """What was held back and is not seen again never happened."""
    holder = polls.holder()
    polls.source.show(*GOOD)
    await holder.poll()
    polls.source.show(*CANCELLED)
    await holder.poll()
    polls.source.show(*GOOD)
    await holder.poll()
    assert await polls.told() == []
    assert await polls.watermark() == later(2)


async def test_another_folly_is_no_agreement(polls: PollRig) -> None:
    """The second poll must say the same, not just anything that is as implausible."""
    holder = polls.holder()
    polls.source.show(*GOOD)
    await holder.poll()
    for rows in (CANCELLED, ENDED):
        polls.source.show(*rows)
        await holder.poll()
    assert await polls.told() == []
    await holder.poll()
    assert {kind for kind, _ in await polls.told()} == {"lab.completed"}


async def test_nothing_is_withheld_for_ever(polls: PollRig) -> None:
    """Where no two polls agree, or each second one fails, the latest is believed in the end."""
    holder = polls.holder()
    polls.source.show(*GOOD)
    await holder.poll()
    for _ in range(MAX_HOLDS):
        polls.source.show(*ENDED)
        await holder.poll()
        assert "lab.completed" not in dict(await polls.told())
        polls.source.pages = [FetchError("timeout", "no answer")]
        await holder.poll()
        assert (await polls.status())["held_back"] == 0
    polls.source.show(*ENDED)
    await holder.poll()
    assert [kind for kind, _ in await polls.told()].count("lab.completed") == MANY


async def test_few_of_many_may_all_change(polls: PollRig) -> None:
    """The share is counted against all entities that are known, not against those that a window happens to show."""
    holder = polls.holder()
    polls.source.show(*(lab(number) for number in range(4 * MANY)))
    await holder.poll()
    polls.source.show(*ENDED)
    await holder.poll()
    assert len(await polls.told()) == MANY
