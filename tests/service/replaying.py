"""What the tests of replays share: beginning one on the rig, and waiting for what becomes of it."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from relay.arrears import count
from relay.core.log import START, Place
from relay.core.replay import Only, Plan, Replay
from relay.core.retry import highest_attempt
from tests.helpers import wait_until
from tests.service.rig import Rig

HIGHEST = highest_attempt(0)


def plan_of(subscriber_id: str, only: Only, after: Place, until: Place, **fields: Any) -> Plan:
    """A replay that nobody has begun."""
    plan = Plan(
        id=f"rpl_{random.getrandbits(64):016x}",
        subscriber_id=subscriber_id,
        after=after,
        until=until,
        event_types=(),
        only=only,
        since_ms=after.ms,
        created_ms=until.ms,
        begins_ms=after.ms,
        trimmed=False,
        count=0,
        counted=False,
    )
    return msgspec.structs.replace(plan, **fields)


async def begin(
    rig: Rig, name: str, only: Only, *, after: Place = START, until: Place | None = None, **fields: Any
) -> Plan:
    """Begin a replay as the API does; up to the log's end, unless told otherwise."""
    now_ms = await rig.store.deliveries.now_ms()
    plan = plan_of(name, only, after, until or await rig.store.log.end(), created_ms=now_ms, **fields)
    subscriber = await rig.store.registry.get(name)
    assert subscriber is not None
    number, counted = await count(rig.store, plan, subscriber, HIGHEST)
    plan = msgspec.structs.replace(plan, count=number, counted=counted)
    assert await rig.store.replays.begin(plan) == plan.id
    return plan


async def look(rig: Rig, plan: Plan) -> Replay:
    """How a replay stands."""
    replay = await rig.store.replays.get(plan.subscriber_id, plan.id)
    assert replay is not None
    return replay


async def ended(rig: Rig, plan: Plan, timeout_s: float = 10.0) -> Replay:
    """Wait for the end of a replay."""

    async def over() -> bool:
        return (await look(rig, plan)).ending is not None

    await wait_until(over, timeout_s, what="the replay has ended")
    return await look(rig, plan)


async def places(rig: Rig, ids: Sequence[str]) -> list[Place]:
    """Where events stand."""
    entries = [await rig.store.log.find(one) for one in ids]
    return [one.place for one in entries if one is not None]


def times(ids: Sequence[str], number: int) -> Counter[str]:
    """Each of these so often."""
    return Counter(dict.fromkeys(ids, number))
