"""One source's loop: lease → fetch → diff → commit.

The watermark moves only after every page of a poll is committed, in the same fenced step as the status of the source.
Whatever goes wrong, the next poll asks for everything since the last watermark again, and the diff finds out what is
news: repeating is always safe.
"""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import structlog

from relay.clock import Clock
from relay.core.errors import FetchError
from relay.core.health import OWN, Health, health_change
from relay.core.memory import Digest, Memory
from relay.core.model import Change, Observation
from relay.core.retry import poll_backoff_s
from relay.leases import Leases
from relay.sources.base import Page, Source
from relay.store.errors import STORE_ERRORS
from relay.store.snapshots import MAX_CHANGES, FencedError, SnapshotStore
from relay.telemetry import Metrics

BACK_DATED = 5_000
"""Minted changes that are kept, to be minted again if the store turns out to have lost its tail."""
OFF_LOOP_BYTES = 1_000_000
EXPIRE_BATCH = MAX_CHANGES

log = structlog.get_logger()


class ConflictError(Exception):
    """The store holds other snapshots than this replica remembers."""


class Poller:
    """Polls one source while this replica holds its lease."""

    def __init__(
        self,
        source: Source,
        store: SnapshotStore,
        leases: Leases,
        clock: Clock,
        metrics: Metrics,
        *,
        emit_first: bool,
        keep_entities_s: float,
        rng: random.Random,
    ) -> None:
        self._source = source
        self._store = store
        self._leases = leases
        self._clock = clock
        self._metrics = metrics
        self._emit_first = emit_first
        self._keep = timedelta(seconds=keep_entities_s)
        self._rng = rng
        self._wake = asyncio.Event()
        self._token: int | None = None
        self._observation = 0
        self._memory = Memory(source.family, {})
        self._watermark: datetime | None = None
        self._health = Health()
        self._recent: deque[Change] = deque(maxlen=BACK_DATED)
        self._held_back = False

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    def poll_now(self) -> None:
        """Do not wait for the interval to end."""
        self._wake.set()

    async def run(self) -> None:
        """Poll for ever, whenever the lease is held."""
        while True:
            token = self._leases.source_token(self.name)
            if token is None:
                self._token = None
                await self._leases.changed.wait()
                continue
            started = self._clock.monotonic()
            self._wake.clear()
            pause_s = await self._turn(token)
            await self._rest(pause_s - (self._clock.monotonic() - started))

    async def _rest(self, seconds: float) -> None:
        waits = [asyncio.ensure_future(self._wake.wait()), asyncio.ensure_future(self._leases.changed.wait())]
        try:
            await asyncio.wait(waits, timeout=max(seconds, 0.0), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _turn(self, token: int) -> float:
        """Poll once; returns the seconds from its start to the next one's."""
        try:
            if token != self._token:
                await self._load(token)
            try:
                await self._poll()
            except FetchError as error:
                return await self._failed(error)
        except FencedError:
            log.info("poll.fenced", source=self.name)
        except ConflictError:
            log.warning("poll.conflict", source=self.name)
        except STORE_ERRORS as error:
            self._metrics.store_errors.inc()
            log.warning("poll.store_error", source=self.name, error=type(error).__name__, detail=str(error)[:200])
        else:
            return self._source.interval_s
        self._token = None  # what is in memory may differ from the store: load again
        return 1.0 + self._rng.random()

    async def _load(self, token: int) -> None:
        """Read the source's state under a new token; repair a store that has lost what was written."""
        stored = await self._store.load(self.name)
        watermark, health = await self._store.meta(f"wm:{self.name}", f"status:{self.name}")
        own = await self._store.load_one(OWN, self._own_entity)
        self._observation = 0
        self._health = Health.restore(health, own)
        lost = self._watermark is not None and (
            watermark is None or datetime.fromisoformat(watermark) < self._watermark
        )
        if lost:
            stored = await self._restore(token, stored)
        elif watermark is not None:
            self._watermark = datetime.fromisoformat(watermark)
        self._memory = Memory(self._source.family, stored)
        self._token = token
        log.info("poll.loaded", source=self.name, entities=len(self._memory), first=self._watermark is None)

    async def _restore(self, token: int, stored: dict[str, bytes]) -> dict[str, bytes]:
        """Mint again what the store has forgotten; the ids are the same, and nothing applies twice."""
        log.error("poll.store_regressed", source=self.name, recent=len(self._recent))
        self._token = token
        await self._mint(list(self._recent), None)
        stored = await self._store.load(self.name)
        missing = [
            Change(entity_id, b"", packed, ())
            for entity_id, packed in self._memory.stored().items()
            if entity_id not in stored
        ]
        await self._mint(missing, None)
        if missing and self._watermark is not None:
            await self._tell("relay.source.gap", (self._watermark, self._clock.now()))
        return await self._store.load(self.name)

    async def _poll(self) -> None:
        started, clock_started = self._clock.now(), self._clock.monotonic()
        self._observation += 1
        total = Digest()
        first = self._watermark is None
        watermark: datetime | None = None
        async for page in self._source.poll(self._watermark):
            if page.gap is not None:
                await self._tell("relay.source.gap", page.gap)
            if not await self._take(page, total, first=first):
                return
            watermark = page.watermark
        if watermark is None:
            raise FetchError("upstream_error", "the poll ended without a last page")
        self._watermark = watermark
        seconds = self._clock.monotonic() - clock_started
        await self._succeeded(started, total, seconds)

    async def _take(self, page: Page, total: Digest, *, first: bool) -> bool:
        """Diff and commit one page. False: it is held back until another poll agrees."""
        backfill = page.backfill or (first and self._emit_first)
        seen = Observation(self.name, self._clock.now(), backfill)
        silent = first and not self._emit_first
        work = partial(self._memory.digest, page.rows, seen, silent=silent)
        large = sum(map(len, page.rows)) > OFF_LOOP_BYTES
        digest = await asyncio.to_thread(work) if large else work()
        if digest.implausible and not self._held_back and not backfill:
            self._held_back = True
            log.error("poll.held_back", source=self.name, known=digest.known, changed=len(digest.changes))
            self._metrics.polls.labels(self.name, "held_back").inc()
            return False
        await self._mint(digest.changes, seen)
        total.rows += digest.rows
        total.older += digest.older
        total.invalid += digest.invalid
        total.changes += digest.changes
        return True

    async def _mint(self, changes: Sequence[Change], seen: Observation | None) -> None:
        """Commit changes in batches; `seen` None: a repeat that may well find everything done."""
        for at in range(0, len(changes), MAX_CHANGES):
            batch = changes[at : at + MAX_CHANGES]
            minted = await self._store.mint(
                self.name, self._held_token(), self._observation, [(self.name, change) for change in batch]
            )
            if seen is None:
                continue
            refused = set(minted.conflicts)
            done = [change for change in batch if change.entity_id not in refused]
            self._memory.adopt(done, seen)
            self._recent.extend(change for change in done if change.events)
            for change in done:
                for event in change.events:
                    self._metrics.events.labels(self.name, event.type).inc()
            if refused:
                raise ConflictError

    async def _succeeded(self, started: datetime, total: Digest, seconds: float) -> None:
        self._held_back = False
        recovered = self._health.succeed(started, total, len(self._memory), self._memory.open())
        if recovered:
            await self._tell("relay.source.recovered")
        expired = self._memory.expired(self._clock.now() - self._keep, EXPIRE_BATCH)
        await self._mint(expired, Observation(self.name, started))
        await self._save()
        self._metrics.polls.labels(self.name, "ok").inc()
        self._metrics.poll_seconds.labels(self.name).observe(seconds)
        self._metrics.last_good_poll.labels(self.name).set(started.timestamp())
        self._count(total)
        log.info(
            "poll.done",
            source=self.name,
            rows=total.rows,
            events=total.events,
            invalid=total.invalid.total(),
            older=total.older,
            entities=len(self._memory),
            duration_ms=round(seconds * 1000),
        )

    def _count(self, total: Digest) -> None:
        fates = {"read": total.rows, "invalid": total.invalid.total(), "older": total.older}
        for fate, rows in fates.items():
            self._metrics.rows.labels(self.name, fate).inc(rows)

    async def _failed(self, error: FetchError) -> float:
        degraded, news = self._health.fail(error.reason, str(error), self._clock.now())
        self._metrics.polls.labels(self.name, error.reason).inc()
        (log.warning if news else log.debug)(
            "poll.failed", source=self.name, reason=error.reason, detail=str(error), failures=self._health.failures
        )
        if degraded:
            await self._tell("relay.source.degraded")
        await self._save()
        return poll_backoff_s(self._health.failures, self._source.interval_s, self._rng.random(), error.retry_after_s)

    async def _save(self) -> None:
        """Write watermark and status; fenced like every write of the source's holder."""
        meta = {f"status:{self.name}": self._health.status()}
        if self._watermark is not None:
            meta[f"wm:{self.name}"] = self._watermark.isoformat()
        await self._store.mint(self.name, self._held_token(), self._observation, (), meta)

    @property
    def _own_entity(self) -> str:
        return f"source:{self.name}"

    async def _tell(self, event_type: str, gap: tuple[datetime, datetime] | None = None) -> None:
        """Mint one of the relay's own events about this source."""
        change = health_change(self.name, event_type, self._health, self._clock.now(), gap)
        minted = await self._store.mint(self.name, self._held_token(), self._observation, [(OWN, change)])
        if minted.conflicts:
            raise ConflictError
        self._health.stored = change.new
        self._metrics.events.labels(OWN, event_type).inc()

    def _held_token(self) -> int:
        """The token that this turn began with; the fence decides whether it is still good."""
        if self._token is None:
            raise FencedError(f"source {self.name} is not held")
        return self._token
