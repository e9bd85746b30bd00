"""A rig for the poller: an upstream whose pages a test writes, the simulated LOD, and holders that take turns."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from redis.asyncio import Redis

from relay.clock import Clock
from relay.core.lab import LabFamily
from relay.core.log import START, Entry
from relay.leases import Leases
from relay.poller import Poller
from relay.sources.base import Page, Source
from relay.store import Store
from relay.store.connect import connect
from relay.telemetry import Metrics
from tests.service.upstreams import NOW, FakeClock

NAME = "lod"


def lab(number: int, status: int = 3, *, activity: int = 100, **fields: Any) -> bytes:
    """One row of LOD."""
    return json.dumps(
        {"LabInstanceId": number, "CompletionStatus": status, "UserId": "u1", "LastActivity": activity, **fields}
    ).encode()


class ScriptedSource:
    """An upstream that answers each poll with the pages, or the fault, that the test has laid out."""

    kind: Final = "lod"

    def __init__(self, clock: FakeClock) -> None:
        self.name: Final = NAME
        self.family: Final = LabFamily()
        self.interval_s = 0.01
        self.pages: Sequence[Page | Exception] = ()
        self.polls: list[datetime | None] = []
        self._clock = clock

    def show(self, *rows: bytes, **options: Any) -> None:
        """Answer with one page from now on."""
        self.pages = [Page(rows, **options)]

    async def poll(self, watermark: datetime | None) -> AsyncIterator[Page]:
        """Answer; the last page tells the present time."""
        self.polls.append(watermark)
        started = self._clock.now()
        last = len(self.pages) - 1
        for number, page in enumerate(self.pages):
            if isinstance(page, Exception):
                raise page
            done = started if number == last else None
            yield replace(page, watermark=done)


class Holder:
    """One replica's poller; its turns are taken one by one, or in its loop."""

    def __init__(self, rig: "PollRig", client: Redis, owner: str, source: Source, clock: Clock, **options: Any) -> None:
        self.store = Store(client)
        self.metrics = Metrics()
        self.leases = Leases(
            self.store.leases, clock, self.metrics, owner=owner, roles="poll", sources=[NAME], shards=()
        )
        self.poller = Poller(
            source,
            self.store.snapshots,
            self.leases,
            clock,
            self.metrics,
            **{"emit_first": False, "keep_entities_s": 90 * 86_400.0, "rng": random.Random(7), **options},
        )
        self._rig = rig

    async def poll(self, *, tick: bool = True) -> None:
        """Renew the lease and poll once, some seconds after the poll before."""
        if tick:
            await self.leases.tick()
        token = self.leases.source_token(NAME)
        assert token is not None
        await self.poller._turn(token)
        self._rig.clock.advance(1)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let both loops run; neither may die."""
        tasks = [asyncio.create_task(self.leases.run()), asyncio.create_task(self.poller.run())]
        try:
            yield
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class PollRig:
    """One upstream, one store, and any number of holders."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.clock = FakeClock()
        self.store = Store(client)
        self.source = ScriptedSource(self.clock)
        self.holders: list[Holder] = []

    def holder(self, **options: Any) -> Holder:
        """Build another replica."""
        made = Holder(self, self.client, f"holder-{len(self.holders) + 1}", self.source, self.clock, **options)
        self.holders.append(made)
        return made

    async def log(self) -> list[Entry]:
        """Everything in the log."""
        return await self.store.log.after(START, await self.store.log.end(), 10_000)

    async def told(self) -> list[tuple[str, str]]:
        """Type and entity of each event in the log."""
        return [(entry.event_type, entry.entity_id) for entry in await self.log()]

    async def data(self) -> list[dict[str, Any]]:
        """The `data` of each event in the log that was not erased."""
        return [json.loads(entry.payload)["data"] for entry in await self.log() if not entry.erased]

    async def watermark(self) -> datetime | None:
        """How far the source was read, as far as the store knows."""
        (text,) = await self.store.snapshots.meta(f"wm:{NAME}")
        return datetime.fromisoformat(text) if text else None

    async def status(self) -> dict[str, Any]:
        """The source's status."""
        (text,) = await self.store.snapshots.meta(f"status:{NAME}")
        return dict(json.loads(text or "{}"))

    async def check(self) -> None:
        """Along each entity: numbers without a hole, each `from` the previous `to`, no id twice."""
        last: dict[str, tuple[int, Any]] = {}
        ids = [entry.event_id for entry in await self.log()]
        assert len(ids) == len(set(ids))
        for data in await self.data():
            entity, transition = data["entity"]["id"], data["transition"]
            if entity in last:
                assert (data["sequence"], transition["from"]) == (last[entity][0] + 1, last[entity][1])
            last[entity] = data["sequence"], transition["to"]


@asynccontextmanager
async def polling(url: str) -> AsyncIterator[PollRig]:
    """Set up on an empty store; at the end the entities' histories are checked."""
    async with connect(url) as client:
        rig = PollRig(client)
        yield rig
        await rig.check()


def later(seconds: float) -> datetime:
    """A moment after the rig's beginning."""
    return NOW + timedelta(seconds=seconds)
