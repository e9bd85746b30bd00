"""Retention: what is removed is listed as dead for whoever has not had it."""

import asyncio

import msgspec

from relay.housekeeping import Housekeeping
from tests.service.rig import Rig


async def test_what_a_lagging_subscriber_has_not_had_becomes_its_dead_letters(rig: Rig) -> None:
    """Where retention wins over a disabled subscriber nothing is lost in silence; the others owe nothing."""
    await rig.subscribe("well")
    lagging = await rig.subscribe("lagging")
    await rig.subscribe("choosy", event_types=("session.*",))
    await rig.change(msgspec.structs.replace(lagging, enabled=False))
    replica = await rig.started()
    ids = await rig.minter.mint(1200)
    await rig.all_accepted("well", ids)
    await rig.committed("well")
    store = rig.store
    keeper = Housekeeping(
        store.log,
        store.deliveries,
        replica.leases,
        registry=store.registry,
        disk=store.disk,
        keep_events_s=0.0,
        keep_attempts_s=3600,
    )
    await asyncio.sleep(0.002)  # the last event is from an earlier millisecond
    await keeper._tidy()
    assert await store.log.before(None, 1) == []
    assert len(await store.deliveries.dead("lagging", 0, 10_000)) == 1200
    assert await store.deliveries.dead("well", 0, 10) == []
    assert await store.deliveries.dead("choosy", 0, 10) == []
    assert await store.log.find(ids[0]) is None
    await rig.minter.mint(1)  # so that the log has an end again
