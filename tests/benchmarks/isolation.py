"""Isolation: how long healthy subscribers wait for a webhook, alone and among hostile ones, in one run."""

import asyncio
import os
import random
import statistics
from datetime import UTC, datetime

from relay.core.keyring import NONCE_BYTES, Keyring
from relay.core.lab import LabFamily
from relay.core.memory import Memory
from relay.core.model import Observation
from relay.core.signing import format_secret
from relay.core.subscriber import StoredSecret, Subscriber
from relay.store import Store
from relay.store.keys import SHARDS
from tests.benchmarks.delivery import KEY, quiet_logs, relay_parts, running_script
from tests.benchmarks.harness import embedded_store, lab_rows

HEALTHY, HOSTILE = 20, 200
EVENTS, PER_S = 2000, 100
TEMPERS = ("refuse", "hang", "drip", "flood", "headers")


async def main() -> None:
    """Measure and print."""
    quiet_logs()
    # In processes of their own: what the hostile ones do to each other is not what is measured.
    with running_script("hostile.py") as healthy, running_script("hostile.py") as hostile:
        alone = await _latencies(healthy, hostile, 0)
        among = await _latencies(healthy, hostile, HOSTILE)
    print(f"\nisolation, {HEALTHY} healthy subscribers, {EVENTS} events at {PER_S} per second")
    for name, figures in (("alone", alone), (f"among {HOSTILE} hostile ones", among)):
        cuts = statistics.quantiles(figures, n=100)
        print(f"  {name:<44} p50 {cuts[49]:>6.0f} ms   p99 {cuts[98]:>6.0f} ms")
    ratio = statistics.quantiles(among, n=100)[98] / statistics.quantiles(alone, n=100)[98]
    print(f"  {'p99 among the hostile / p99 alone':<44} {ratio:>6.2f} x")


async def _latencies(healthy_url: str, hostile_url: str, hostile: int) -> list[float]:
    """Milliseconds from the log to the answer, for every delivery to a healthy subscriber."""
    async with embedded_store() as store, relay_parts(store) as (leases, dispatcher):
        ring = Keyring([KEY])
        for number in range(HEALTHY):
            await _subscribe(store, ring, f"sub_healthy{number}", healthy_url + "ok")
        for number in range(hostile):
            await _subscribe(store, ring, f"sub_hostile{number}", hostile_url + TEMPERS[number % len(TEMPERS)])
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(leases.run()), group.create_task(dispatcher.run())]
            await asyncio.sleep(1)
            await _mint(store)
            await asyncio.sleep(2)
            for task in tasks:
                task.cancel()
        return await _read(store)


async def _subscribe(store: Store, ring: Keyring, name: str, url: str) -> None:
    sealed = ring.seal(format_secret(KEY), name, os.urandom(NONCE_BYTES))
    await store.registry.create(Subscriber(id=name, url=url, secrets=(StoredSecret(sealed=sealed),)))


async def _mint(store: Store) -> None:
    held = await store.leases.tick("minter", "poll", ["lod"], [], ttl_ms=60_000)
    memory = Memory(LabFamily(), {})
    changes = memory.digest(lab_rows(EVENTS, status=4), Observation("lod", datetime.now(UTC))).changes
    for change in changes:
        await store.snapshots.mint("lod", held.tokens["source.lod"], 1, [("lod", change)])
        await asyncio.sleep(random.expovariate(PER_S))


async def _read(store: Store) -> list[float]:
    found = []
    for shard in range(SHARDS):
        for _, group in await store.deliveries.attempts(shard, count=100_000):
            found += [
                float(one.started_ms + one.duration_ms - int(one.place.split("-")[0]))
                for one in group
                if one.subscriber_id.startswith("sub_healthy")
            ]
    if len(found) != HEALTHY * EVENTS:
        raise AssertionError(f"{len(found)} of {HEALTHY * EVENTS} deliveries were made")
    return found
