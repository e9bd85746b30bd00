"""One source's loop: lease → fetch → diff → commit.

The watermark moves only after every page of a poll is committed, in the same fenced step as the status of the source.
Whatever goes wrong, the next poll asks for everything since the last watermark again, and the diff finds out what is
news: repeating is always safe.
"""

import asyncio
import random
from collections import deque
from collections.abc import Mapping, Sequence
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
from relay.store.snapshots import MAX_CHANGES, FencedError, LostTailError, Minted, SnapshotStore
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
        self._fence = (0, 0)
        """Token and number of the latest mint that was confirmed; a store whose fence is behind has lost something."""
        self._memory = Memory(source.family, {})
        self._watermark: datetime | None = None
        """As the store has confirmed it."""
        self._lost_tail = False
        self._gap_told: datetime | None = None
        """Beginning of the latest gap that was told of: a poll that fails half-way meets it again."""
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
            await self._rest(started + pause_s, token)

    async def _rest(self, until: float, token: int) -> None:
        """Wait for a time, a wake-up or the loss of this lease; a change of other leases ends no pause."""
        while (seconds := until - self._clock.monotonic()) > 0 and self._leases.source_token(self.name) == token:
            waits = [asyncio.ensure_future(self._wake.wait()), asyncio.ensure_future(self._leases.changed.wait())]
            try:
                await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if self._wake.is_set():
                return

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
        except LostTailError:
            self._lost_tail = True
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
        fence = await self._store.fence(self.name)
        if fence[0] != token:
            raise FencedError(f"source {self.name} was taken over by another replica")
        self._lost_tail |= fence < self._fence
        self._fence = fence
        text, health = await self._store.meta(f"wm:{self.name}", f"status:{self.name}")
        watermark = datetime.fromisoformat(text) if text else None
        self._health = Health.restore(health, await self._store.load_one(OWN, self._own_entity))
        self._token = token
        if self._lost_tail or (self._watermark and (watermark is None or watermark < self._watermark)):
            await self._restore(self._watermark, watermark)
        else:
            self._watermark = watermark
        self._memory = Memory(self._source.family, await self._store.load(self.name))
        log.info("poll.loaded", source=self.name, entities=len(self._memory), first=self._watermark is None)

    async def _restore(self, ours: datetime | None, stored: datetime | None) -> None:
        """Mint again what the store has forgotten; the ids are the same, and nothing applies twice.

        A store that has lost a tail is read again from its own watermark. One that has lost everything gets the
        snapshots back from memory, without the events that led to them, which is a gap.
        """
        log.error("poll.store_regressed", source=self.name, recent=len(self._recent), empty=stored is None)
        self._lost_tail = True  # until all of it is done
        await self._mint(list(self._recent), None)
        if stored is None and ours is not None:
            known = await self._store.load(self.name)
            missing = {name: packed for name, packed in self._memory.stored().items() if name not in known}
            await self._mint([Change(name, b"", packed, ()) for name, packed in missing.items()], None)
            await self._tell_gap(ours, self._clock.now())
            await self._save(ours)
        else:
            self._watermark = stored
        self._lost_tail = False

    async def _poll(self) -> None:
        started, clock_started = self._clock.now(), self._clock.monotonic()
        total = Digest()
        first = self._watermark is None
        watermark: datetime | None = None
        async for page in self._source.poll(self._watermark):
            if page.gap is not None:
                await self._tell_gap(*page.gap)
            if not await self._take(page, total, first=first):
                return
            watermark = page.watermark
        if watermark is None:
            raise FetchError("upstream_error", "the poll ended without a last page")
        await self._succeeded(started, total, watermark)
        self._finished(started, total, self._clock.monotonic() - clock_started)

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
            minted = await self._write([(self.name, change) for change in batch])
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

    async def _write(self, changes: Sequence[tuple[str, Change]], meta: Mapping[str, str] | None = None) -> Minted:
        """One fenced write; the fence decides whether the token that this turn began with is still good."""
        if self._token is None:
            raise FencedError(f"source {self.name} is not held")
        last = self._fence[1]
        minted = await self._store.mint(self.name, self._token, last + 1, changes, meta, last=last)
        self._fence = (self._token, last + 1)
        return minted

    async def _succeeded(self, started: datetime, total: Digest, watermark: datetime) -> None:
        self._held_back = False
        recovered = self._health.succeed(started, total, len(self._memory), self._memory.open())
        if recovered:
            await self._tell("relay.source.recovered")
        expired = self._memory.expired(self._clock.now() - self._keep, EXPIRE_BATCH)
        await self._mint(expired, Observation(self.name, started))
        await self._save(watermark)

    def _finished(self, started: datetime, total: Digest, seconds: float) -> None:
        self._metrics.polls.labels(self.name, "ok").inc()
        self._metrics.poll_seconds.labels(self.name).observe(seconds)
        self._metrics.last_good_poll.labels(self.name).set(started.timestamp())
        fates = {"read": total.rows, "invalid": total.invalid.total(), "older": total.older}
        for fate, rows in fates.items():
            self._metrics.rows.labels(self.name, fate).inc(rows)
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

    async def _failed(self, error: FetchError) -> float:
        degraded, news = self._health.fail(error.reason, str(error), self._clock.now())
        self._metrics.polls.labels(self.name, error.reason).inc()
        (log.warning if news else log.debug)(
            "poll.failed", source=self.name, reason=error.reason, detail=str(error), failures=self._health.failures
        )
        if degraded:
            await self._tell("relay.source.degraded")
        await self._save(self._watermark)
        return poll_backoff_s(self._health.failures, self._source.interval_s, self._rng.random(), error.retry_after_s)

    async def _save(self, watermark: datetime | None) -> None:
        """Write watermark and status; fenced like every write of the source's holder."""
        meta = {f"status:{self.name}": self._health.status()}
        if watermark is not None:
            meta[f"wm:{self.name}"] = watermark.isoformat()
        await self._write((), meta)
        self._watermark = watermark

    @property
    def _own_entity(self) -> str:
        return f"source:{self.name}"

    async def _tell_gap(self, start: datetime, end: datetime) -> None:
        if start != self._gap_told:
            await self._tell("relay.source.gap", (start, end))
            self._gap_told = start

    async def _tell(self, event_type: str, gap: tuple[datetime, datetime] | None = None) -> None:
        """Mint one of the relay's own events about this source."""
        change = health_change(self.name, event_type, self._health, self._clock.now(), gap)
        minted = await self._write([(OWN, change)])
        if minted.conflicts:
            raise ConflictError
        self._health.stored = change.new
        self._metrics.events.labels(OWN, event_type).inc()
