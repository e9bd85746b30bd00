"""After an erasure the upstream still shows the learner: nothing is minted again, and what is new is minted rightly."""

import json

import pytest
from redis.asyncio import Redis

from relay.core.erasure import Pseudonyms, learner_in
from relay.erasure import Erasure
from relay.sources.base import Page
from tests.helpers import wait_until
from tests.service.polling import NAME, Holder, PollRig, lab
from tests.service.test_poller_faults import back_to, everything
from tests.service.test_poller_tail import lapse

GONE, OTHER = "learner-to-forget", "learner-who-stays"
NAMES = Pseudonyms([b"k" * 32])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is to be waited for here."""
    monkeypatch.setattr("relay.erasure.SETTLE_S", 0.0)


def holder(polls: PollRig) -> Holder:
    """A replica with the relay's encryption key."""
    return polls.holder(names=NAMES)


def rows(status: int) -> list[bytes]:
    """A lab of each learner."""
    return [lab(1, status, UserId=GONE), lab(2, status, UserId=OTHER)]


async def erase(polls: PollRig) -> dict[str, int]:
    """Erase the one, by another replica; how many snapshots and events that came to."""
    report = await Erasure(polls.store, NAMES, [NAME]).erase(GONE)
    return {"entities": report.entities[NAME], "events": report.events[NAME]}


async def stored(polls: PollRig) -> list[str | None]:
    """Whom the stored snapshots name."""
    found = await polls.store.snapshots.load(NAME)
    return [learner_in(found[entity]) for entity in sorted(found)]


async def told(polls: PollRig) -> list[tuple[str, int | None]]:
    """Entity and sequence number of each event, None where it was erased."""
    return [
        (one.entity_id, None if one.erased else json.loads(one.payload)["data"]["sequence"])
        for one in await polls.log()
    ]


async def begun(polls: PollRig) -> Holder:
    """A holder that has seen both labs and one transition of each."""
    one = holder(polls)
    for status in (2, 3):
        polls.source.show(*rows(status))
        await one.poll()
    assert await told(polls) == [("1", 1), ("2", 1)]
    return one


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "not heard yet"])
async def test_the_same_rows_again_mint_nothing(polls: PollRig, *, heard: bool) -> None:
    """Whether the holder has heard or not, after a take-over too; and no snapshot names the learner again."""
    one = await begun(polls)
    assert await erase(polls) == {"entities": 1, "events": 1}
    if heard:
        one.poller.forget(NAMES.of(GONE))
        await one.poller._forget()
    for who in (one, one, holder(polls)):
        if who is not one:
            await one.leases.leave()
        await who.poll()
    assert await told(polls) == [("1", None), ("2", 1)]
    assert await stored(polls) == [NAMES.of(GONE), OTHER]


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "not heard yet"])
async def test_the_next_transition_has_the_next_number(polls: PollRig, *, heard: bool) -> None:
    """It is new data: told whole, numbered on from the erased one, and stored under the pseudonym."""
    one = await begun(polls)
    await erase(polls)
    if heard:
        one.poller.forget(NAMES.of(GONE))
        await one.poller._forget()
    polls.source.show(*rows(50))
    for _ in range(3):
        await one.poll()
    assert sorted(await told(polls), key=str) == [("1", 2), ("1", None), ("2", 1), ("2", 2)]
    assert await stored(polls) == [NAMES.of(GONE), OTHER]
    assert await erase(polls) == {"entities": 0, "events": 1}


async def test_what_is_minted_again_after_a_loss_does_not_speak_of_the_learner(
    polls: PollRig, redis_client: Redis
) -> None:
    """A holder that takes its source again repeats its latest mints; those of the learner are not among them."""
    one = await begun(polls)
    await erase(polls)
    one.poller.forget(NAMES.of(GONE))
    await one.poller._forget()
    erased = await everything(redis_client)
    polls.source.show(*rows(4))
    await one.poll()
    assert len(await told(polls)) == 4
    await back_to(redis_client, erased)
    await lapse(redis_client)
    await one.poll()
    assert sorted(await told(polls), key=str) == [("1", 2), ("1", None), ("2", 1), ("2", 2)]
    assert await stored(polls) == [NAMES.of(GONE), OTHER]


async def test_an_empty_store_gets_no_learner_back(polls: PollRig, redis_client: Redis) -> None:
    """A holder that restores the snapshots of a lost store from its memory has the pseudonym there."""
    one = await begun(polls)
    await erase(polls)
    one.poller.forget(NAMES.of(GONE))
    await one.poller._forget()
    await redis_client.flushall()
    polls.source.pages = [Page([])]
    await one.poll()
    await one.poll()
    assert await stored(polls) == [NAMES.of(GONE), OTHER]
    assert GONE.encode() not in b"".join(filter(None, (await everything(redis_client)).values()))


async def test_a_replica_forgets_whether_it_holds_the_lease_or_rests(polls: PollRig) -> None:
    """Its loop takes a message to heart without polling because of it."""
    one, other = holder(polls), holder(polls)
    polls.source.show(*rows(2))
    polls.source.interval_s = 60
    await other.poll()
    await other.leases.leave()
    async with one.running(), other.running():
        await wait_until(lambda: len(one.poller._memory) == len(other.poller._memory) == 2)
        await wait_until(lambda: len(polls.source.polls) == 2)
        await erase(polls)
        for each in (one, other):
            each.poller.forget(NAMES.of(GONE))

        def remembered() -> set[str | None]:
            return {learner_in(packed) for each in (one, other) for packed in each.poller._memory.stored().values()}

        await wait_until(lambda: remembered() == {NAMES.of(GONE), OTHER})
        assert len(polls.source.polls) == 2
