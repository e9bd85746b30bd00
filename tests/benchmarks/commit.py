"""Diff and commit: records per second, unchanged and changed, against a bare Redis pipeline of the same writes."""

from collections.abc import Sequence
from datetime import UTC, datetime

from relay.core.lab import LabFamily
from relay.core.memory import Memory
from relay.core.model import Change, Observation
from relay.store import Store
from relay.store.keys import Keys
from relay.store.snapshots import MAX_CHANGES
from tests.benchmarks.harness import ROUNDS, embedded_store, lab_rows, per_second, report

RECORDS = 10_000


async def main() -> None:
    """Measure and print."""
    figures: dict[str, list[float]] = {
        "bare pipeline, HSET + XADD": [],
        "changed: diff + mint": [],
        "unchanged: diff": [],
    }
    for _ in range(ROUNDS):
        async with embedded_store() as store:
            figures["bare pipeline, HSET + XADD"].append(await _bare(store))
        async with embedded_store() as store:
            changed, unchanged = await _relay(store)
            figures["changed: diff + mint"].append(changed)
            figures["unchanged: diff"].append(unchanged)
    report(
        f"diff + commit, {RECORDS:,} records, batches of {MAX_CHANGES}, appendfsync always",
        figures,
        "bare pipeline, HSET + XADD",
        "records/s",
    )


def _changes() -> tuple[Memory, list[Change], Observation]:
    """Open labs in memory, and the change of every one of them to complete."""
    memory = Memory(LabFamily(), {})
    seen = Observation("lod", datetime.now(UTC))
    baseline = memory.digest(lab_rows(RECORDS, status=3), seen, silent=True)
    memory.adopt(baseline.changes, seen)
    return memory, baseline.changes, seen


async def _relay(store: Store) -> tuple[float, float]:
    memory, baseline, seen = _changes()
    held = await store.leases.tick("bench", "poll", ["lod"], [], ttl_ms=60_000)
    token = held.tokens["source.lod"]
    await _mint(store, token, baseline)
    rows = lab_rows(RECORDS, status=4, score=80)

    async def changed() -> None:
        digest = memory.digest(rows, seen)
        await _mint(store, token, digest.changes)
        memory.adopt(digest.changes, seen)

    async def unchanged() -> None:
        memory.digest(rows, seen)

    return await per_second(RECORDS, changed), await per_second(RECORDS, unchanged)


async def _mint(store: Store, token: int, changes: Sequence[Change]) -> None:
    for at in range(0, len(changes), MAX_CHANGES):
        await store.snapshots.mint("lod", token, 1, [("lod", change) for change in changes[at : at + MAX_CHANGES]])


async def _bare(store: Store) -> float:
    """The least that could be done: one HSET and one XADD per event, payload included, without diff or fence."""
    memory, _, seen = _changes()
    keys = Keys()
    changes = memory.digest(lab_rows(RECORDS, status=4, score=80), seen).changes

    async def work() -> None:
        for at in range(0, len(changes), MAX_CHANGES):
            pipe = store.client.pipeline(transaction=False)
            for change in changes[at : at + MAX_CHANGES]:
                pipe.hset(keys.state("lod", change.entity_id), change.entity_id, change.new)
                for event in change.events:
                    pipe.xadd(keys.log, {"i": event.id, "p": event.payload})
            await pipe.execute()

    return await per_second(RECORDS, work)
