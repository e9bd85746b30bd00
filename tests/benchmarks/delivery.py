"""Delivery: webhooks per second end to end, against a bare aiohttp POST loop with the same payload and concurrency."""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import aiohttp

from relay import garbage
from relay.attempts import Attempter
from relay.clock import SystemClock
from relay.core.keyring import NONCE_BYTES, Keyring
from relay.core.lab import LabFamily
from relay.core.memory import Memory
from relay.core.model import Change, Event, Observation
from relay.core.signing import format_secret, sign_with_key
from relay.core.subscriber import StoredSecret, Subscriber
from relay.dispatcher import Dispatcher
from relay.egress import Sender
from relay.leases import Leases
from relay.store import Store
from relay.store.keys import SHARDS
from relay.store.snapshots import MAX_CHANGES
from relay.telemetry import Metrics, configure_logging
from tests.benchmarks.harness import ROUNDS, embedded_store, lab_rows, per_second, report

EVENTS = 10_000
CONCURRENCY = 64
KEY = bytes(range(32))
NOWHERE = Path(os.devnull).open("w")  # noqa: SIM115 - loggers keep it for as long as the process lives


async def main() -> None:
    """Measure and print."""
    bare, relayed = "bare aiohttp loop, signed", "relay: log → signed POST → committed"
    figures: dict[str, list[float]] = {bare: [], relayed: []}
    quiet_logs()
    with running_script("receiver.py") as url:
        for _ in range(ROUNDS):
            figures[bare].append(await _bare(url))
            figures[relayed].append(await _relay(url))
    size = len(_changes()[0].events[0].payload)
    report(f"delivery, {EVENTS:,} webhooks of {size:,} bytes, {CONCURRENCY} in flight", figures, bare, "webhooks/s")


@contextlib.contextmanager
def running_script(name: str) -> Iterator[str]:
    """A receiver in a process of its own; yields its URL."""
    script = Path(__file__).with_name(name)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
        finally:
            process.terminate()


def quiet_logs() -> None:
    """Write logs as in production, and throw them away."""
    configure_logging("json", "info", NOWHERE)


@contextlib.asynccontextmanager
async def relay_parts(store: Store) -> AsyncIterator[tuple[Leases, Dispatcher]]:
    """The delivering half of a relay."""
    clock, metrics, rng = SystemClock(), Metrics(), random.Random()
    leases = Leases(store.leases, clock, metrics, owner="bench", roles="deliver", sources=(), shards=range(SHARDS))
    garbage.settle()
    async with Sender(allow=[ip_network("127.0.0.0/8")], allow_http=True, user_agent="relay/bench") as sender:
        attempter = Attempter(sender, clock, metrics, rng, schedule_s=(5, 300, 1800), agent="relay/bench")
        yield (
            leases,
            Dispatcher(
                store,
                Keyring([KEY]),
                attempter,
                leases,
                clock,
                metrics,
                rng=rng,
                wait_replicas=0,
                notice_after_s=600,
                disable_after_s=432_000,
                keep_attempts_s=3600,
                on_control=lambda _kind, _value: None,
            ),
        )


def _changes() -> list[Change]:
    memory = Memory(LabFamily(), {})
    return memory.digest(lab_rows(EVENTS, status=4, score=80), Observation("lod", datetime.now(UTC))).changes


async def _bare(url: str) -> float:
    events = iter([event for change in _changes() for event in change.events])

    async def worker(session: aiohttp.ClientSession) -> None:
        for event in events:
            await _post(session, url, event)

    async def work() -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(worker(session) for _ in range(CONCURRENCY)))

    return await per_second(EVENTS, work)


async def _post(session: aiohttp.ClientSession, url: str, event: Event) -> None:
    now_s = int(datetime.now(UTC).timestamp())
    headers = {
        "content-type": "application/json",
        "webhook-id": event.id,
        "webhook-timestamp": str(now_s),
        "webhook-signature": sign_with_key(KEY, event.id, now_s, event.payload),
    }
    async with session.post(url, data=event.payload, headers=headers) as answer:
        assert answer.status == 204
        await answer.read()


async def _relay(url: str) -> float:
    async with embedded_store() as store, relay_parts(store) as (leases, dispatcher):
        await _fill(store, Keyring([KEY]), url)
        return await per_second(EVENTS, lambda: _until_delivered(store, leases, dispatcher))


async def _fill(store: Store, ring: Keyring, url: str) -> None:
    sealed = ring.seal(format_secret(KEY), "sub_bench", os.urandom(NONCE_BYTES))
    await store.registry.create(
        Subscriber(id="sub_bench", url=url, max_in_flight=CONCURRENCY, secrets=(StoredSecret(sealed=sealed),))
    )
    held = await store.leases.tick("filler", "poll", ["lod"], [], ttl_ms=60_000)
    changes = _changes()
    for at in range(0, EVENTS, MAX_CHANGES):
        batch = [("lod", change) for change in changes[at : at + MAX_CHANGES]]
        await store.snapshots.mint("lod", held.tokens["source.lod"], 1, batch)
    await store.leases.tick("filler", "", (), (), ttl_ms=0)


async def _until_delivered(store: Store, leases: Leases, dispatcher: Dispatcher) -> None:
    """Run the relay's loops until every attempt is committed."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(leases.run()), group.create_task(dispatcher.run())]
        end = await store.log.end()
        while not await _caught_up(store, end):  # noqa: ASYNC110 - the store cannot call back
            await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()


async def _caught_up(store: Store, end: object) -> bool:
    for shard in range(SHARDS):
        cursors = await store.deliveries.cursors(shard)
        if "sub_bench" not in cursors and cursors.get("*") == end:
            return True
    return False
