"""What the benchmarks share: an embedded store that fsyncs every write, labs as rows, a table of results."""

import contextlib
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from relay.store import Store
from relay.store.connect import connect
from relay.store.embedded import EmbeddedStore

ROUNDS = 3


@contextlib.asynccontextmanager
async def embedded_store() -> AsyncIterator[Store]:
    """A real store in a fresh directory, with the durability that a laptop gets."""
    directory = Path(tempfile.mkdtemp(prefix="relay-bench-"))
    server = EmbeddedStore(directory, max_memory="1gb")
    await server.ensure()
    client = connect(server.url)
    try:
        yield Store(client)
    finally:
        await client.aclose()
        await server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def lab_rows(count: int, *, status: int, score: int | None = None) -> list[bytes]:
    """LatestResults rows of `count` labs, all in the same state."""
    return [
        msgspec.json.encode(
            {
                "LabInstanceId": 349_000 + number,
                "LabProfileId": 5522,
                "Start": 1_795_000_000 + number,
                "End": None,
                "LastActivity": 1_795_000_100 + number,
                "UserId": f"learner-{number}",
                "ClassId": "class-7",
                "CompletionStatus": status,
                "TotalRunTimeSeconds": 2548,
                "TaskCompletePercent": 33,
                "IsExam": True,
                "ExamPassed": None,
                "ExamScore": score,
                "ExamMaxPossibleScore": 100,
                "ExamPassingScore": 60,
                "IpAddress": None,
                "Country": None,
                "Region": None,
                "City": None,
                "Latitude": None,
                "Longitude": None,
                "LabHostId": 49,
                "DatacenterId": 3,
                "DeliveryRegionId": 2,
            }
        )
        for number in range(count)
    ]


async def per_second(count: int, work: Callable[[], Awaitable[object]]) -> float:
    """How many of `count` things one run of `work` does in a second."""
    started = time.perf_counter()
    await work()
    return count / (time.perf_counter() - started)


def report(title: str, figures: Mapping[str, Sequence[float]], base: str, unit: str) -> None:
    """Print the median of each figure and its ratio to the base."""
    print(f"\n{title}")
    reference = statistics.median(figures[base])
    for name, values in figures.items():
        median = statistics.median(values)
        spread = (max(values) - min(values)) / median / 2
        print(f"  {name:<44} {median:>10,.0f} {unit}  ± {spread:>4.0%}  {median / reference:>6.2f} x")
