"""Redelivery as the subscriber sees it: the same id again, through the dispatcher, and the record of it."""

from relay.admin.attempt_walk import Budget
from relay.admin.ledger import Found, Ledger
from relay.admin.redelivery import Redelivery
from tests.helpers import wait_until
from tests.service.rig import SCHEDULE_S, Rig, refuse


async def look_up(rig: Rig, ledger: Ledger, event_id: str) -> Found:
    """The delivery of an event to subscriber `a`, as the API tells it."""
    entry, subscriber = await rig.store.log.find(event_id), await rig.store.registry.get("a")
    assert entry is not None
    found = await ledger.look_up("a", entry, subscriber, Budget())
    assert found is not None
    return found


async def test_a_dead_letter_arrives_with_the_same_id_and_is_recorded(rig: Rig) -> None:
    """It died of refusals; made again it is sent by whoever holds the shard, and so is a delivered one."""
    ledger = Ledger(rig.store, len(SCHEDULE_S) + 1)
    redelivery = Redelivery(rig.store, ledger)
    await rig.subscribe("a")
    rig.hooks.behaviours["a"] = refuse
    replica = await rig.started()
    (event_id,) = await rig.minter.mint(1)

    async def dead() -> bool:
        return bool(await rig.store.deliveries.dead("a", 0, 1))

    await wait_until(dead, 10.0)
    await replica.leave()
    del rig.hooks.behaviours["a"]
    for accepted in (1, 2):
        assert (await redelivery.one("a", event_id))[0].seen.status == "pending"
        replica = await rig.started()
        await wait_until(lambda times=accepted: rig.hooks.accepted["a"][event_id] == times)
        await rig.committed("a")
        found = await look_up(rig, ledger, event_id)
        assert (found.seen.status, found.seen.attempts) == ("delivered", 1)
        verdicts = [one.verdict for one in (*found.history.former, *found.history.attempts)]
        assert verdicts == ["retry", "retry", "dead"] + ["delivered"] * accepted
        await replica.leave()
    assert set(rig.hooks.order("a")) == {event_id}


async def test_a_redelivery_is_sent_at_once_by_the_dispatcher_that_runs(rig: Rig) -> None:
    """It need not be restarted: the order wakes it."""
    ledger = Ledger(rig.store, len(SCHEDULE_S) + 1)
    await rig.subscribe("a")
    await rig.started()
    (event_id,) = await rig.minter.mint(1)
    await rig.all_accepted("a", [event_id])
    await rig.committed("a")
    await Redelivery(rig.store, ledger).one("a", event_id)
    await wait_until(lambda: rig.hooks.accepted["a"][event_id] == 2)
