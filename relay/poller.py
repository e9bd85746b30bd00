"""One source's loop: lease → fetch → diff → commit.

The watermark moves only after every page of a poll is committed, in the same fenced step as the status of the source.
Whatever goes wrong, the next poll asks for everything since the last watermark again, and the diff finds out what is
news: repeating is always safe.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import structlog

from relay.clock import Clock
from relay.core.doubt import Doubt, Verdict
from relay.core.erasure import Pseudonyms
from relay.core.errors import FetchError
from relay.core.events import rfc3339
from relay.core.health import OWN, Health, health_change
from relay.core.memory import Digest, Memory
from relay.core.model import Change, Observation
from relay.core.retry import JITTER, MAX_ASKED_S, poll_backoff_s
from relay.fenced import ConflictError, FencedWriter, batches
from relay.forgetting import Forgetting
from relay.leases import Leases
from relay.rests import Rest
from relay.sources.base import Page, Source
from relay.standby import Standby
from relay.store.errors import STORE_ERRORS
from relay.store.snapshots import MAX_CHANGES, FencedError, LostTailError, SnapshotStore
from relay.telemetry import Metrics

OFF_LOOP_BYTES = 1_000_000
OFF_LOOP_ENTITIES = 20_000
MAX_PAUSE_S = 30.0
"""Longest pause after turns that the store has spoilt, before jitter."""
EXPIRE_BATCH = MAX_CHANGES

_LEVELS = {"degraded": logging.WARNING, "recovered": logging.INFO, "gap": logging.ERROR}

log = structlog.get_logger()


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
        names: Pseudonyms | None = None,
    ) -> None:
        self._source = source
        self._own_entity = f"source:{source.name}"
        self._store = store
        self._leases = leases
        self._clock = clock
        self._metrics = metrics
        self._emit_first = emit_first
        self._keep = timedelta(seconds=keep_entities_s)
        self._rng = rng
        self._names = names or Pseudonyms()
        self._forgetting = Forgetting()
        self._rest = Rest(source.name, leases, clock, self._forgetting.told, self._forget)
        self._standby = Standby(source.name, store, leases)
        self._writer = FencedWriter(store, source.name, self._keep, self._names)
        self._memory = Memory(source.family, {}, self._names)
        self._watermark: datetime | None = None
        """As the store has confirmed it."""
        self._health = Health()
        self._doubt = Doubt()
        self._turn_at = clock.now()
        self._spoilt = 0
        """Turns in a row that could not be finished."""

    @property
    def name(self) -> str:
        """The source's."""
        return self._source.name

    def poll_now(self) -> None:
        """Do not wait for the interval to end; what the upstream has asked for is waited for."""
        self._rest.cut_short()

    def forget(self, pseudonym: str) -> None:
        """Remember a learner no longer, whether the lease is held or not; done between two turns."""
        self._forgetting.tell(pseudonym)

    async def run(self) -> None:
        """Poll for ever, whenever the lease is held."""
        while True:
            await self._forget()
            changed, token = self._leases.changed, self._leases.source_token(self.name)
            if token is None:
                self._writer.token = None
                await self._standby.wait(changed, self._forgetting.told)
                continue
            self._rest.begin()
            await self._rest.until(await self._turn(token), token)

    async def _forget(self) -> None:
        await self._forgetting.settle(self._memory.forget, self._writer.forget)

    async def _turn(self, token: int) -> float:
        """Poll once; returns the monotonic time at which the next turn begins."""
        started, self._turn_at = self._clock.monotonic(), self._clock.now()
        until = started + self._source.interval_s
        try:
            if token != self._writer.token:
                await self._load(token)
                if self._rest.not_before > self._clock.monotonic():  # a former holder was asked to wait
                    return self._rest.not_before
            try:
                await self._poll()
            except FetchError as error:
                until = max(started + await self._failed(error), self._rest.not_before)
        except FencedError:
            log.info("poll.fenced", source=self.name)
        except LostTailError:
            self._writer.lost_tail = True
        except ConflictError:
            log.warning("poll.conflict", source=self.name)
        except STORE_ERRORS as error:
            self._metrics.store_errors.inc()
            log.warning("poll.store_error", source=self.name, error=type(error).__name__, detail=str(error)[:200])
        else:
            self._spoilt = 0
            return until
        self._writer.token = None  # what is in memory may differ from the store: load again
        self._spoilt += 1
        pause_s = min(poll_backoff_s(self._spoilt, 1.0, 0.0), MAX_PAUSE_S)
        return self._clock.monotonic() + pause_s * (1 + JITTER * self._rng.random())

    async def _load(self, token: int) -> None:
        """Read the source's state under a new token; repair a store that has lost what was written."""
        await self._writer.begin(token)
        text, health = await self._store.meta(f"wm:{self.name}", f"status:{self.name}")
        watermark = datetime.fromisoformat(text) if text else None
        self._health = Health.restore(health, await self._store.load_one(OWN, self._own_entity))
        if self._standby.gives_way(self._watermark, watermark):
            raise FencedError("whoever polled last is to restore the store")
        self._writer.lost_tail |= self._watermark is not None and (watermark is None or watermark < self._watermark)
        if self._writer.in_doubt:
            await self._restore(self._watermark, watermark)
        else:
            self._watermark = watermark
            if watermark is None and (seen := self._standby.seen) is not None:
                await self._tell_gap(seen, self._clock.now())
        if self._health.wait_until is not None:
            self._rest.hold_off((self._health.wait_until - self._clock.now()).total_seconds())
        stored = await self._store.load(self.name)
        make = partial(Memory, self._source.family, stored, self._names)
        self._memory = await asyncio.to_thread(make) if len(stored) > OFF_LOOP_ENTITIES else make()
        log.info("poll.loaded", source=self.name, entities=len(self._memory), first=self._watermark is None)

    async def _restore(self, ours: datetime | None, stored: datetime | None) -> None:
        """Mint again what the store may have forgotten; the ids are the same, and nothing applies twice.

        A store that has lost a tail is read again from its own watermark; where the tail that is kept does not reach
        back far enough, that is a gap. One that has lost everything gets the snapshots back from memory, without the
        events that led to them, which is a gap too. If nothing was lost, another holder may well have gone on.
        """
        foreign = await self._writer.mint_again(self._clock.now())
        if self._writer.lost_tail:
            log.error("poll.store_regressed", source=self.name, conflicts=len(foreign), empty=stored is None)
        if stored is None and ours is not None:
            known = await self._store.load(self.name)
            missing = {name: packed for name, packed in self._memory.stored().items() if name not in known}
            await self._writer.repeat([Change(name, b"", packed, ()) for name, packed in missing.items()])
            await self._tell_gap(ours, self._clock.now())
            await self._save(ours)
        else:
            if self._writer.lost_tail and foreign:
                log.warning("poll.not_restored", source=self.name, entities=len(foreign))
                await self._tell_gap(stored or self._clock.now(), self._clock.now())
            self._watermark = stored
        self._writer.restored()

    async def _poll(self) -> None:
        started, clock_started = self._clock.now(), self._clock.monotonic()
        total = Digest()
        first = self._watermark is None
        watermark: datetime | None = None
        pages, asked_at = aiter(self._source.poll(self._watermark)), started
        while page := await anext(pages, None):
            if page.gap is not None:
                await self._tell_gap(*page.gap)
            if not await self._take(page, total, asked_at, first=first):
                await self._save(self._watermark)
                return
            watermark, asked_at = page.watermark, self._clock.now()
        if watermark is None:
            raise FetchError("upstream_error", "the poll ended without a last page")
        await self._succeeded(started, total, watermark)
        self._finished(started, total, self._clock.monotonic() - clock_started)

    async def _take(self, page: Page, total: Digest, asked_at: datetime, *, first: bool) -> bool:
        """Diff and commit one page. False: it is held back until another poll agrees."""
        backfill = page.backfill or (first and self._emit_first)
        seen = Observation(self.name, self._clock.now(), backfill, asked_at)
        silent = first and not self._emit_first
        work = partial(self._memory.digest, page.rows, seen, silent=silent)
        digest = await asyncio.to_thread(work) if sum(map(len, page.rows)) > OFF_LOOP_BYTES else work()
        if digest.implausible and not backfill and self._doubts(digest, asked_at):
            return False
        await self._mint(digest.changes, seen)
        total.add(digest)
        return True

    def _doubts(self, digest: Digest, asked_at: datetime) -> bool:
        """Whether implausibly many changes wait for another poll."""
        changed = len(digest.doubtful())
        verdict = self._doubt.judge(self._memory.claims(digest))
        (log.warning if verdict is Verdict.AGREED else log.error)(
            f"poll.{verdict.value}", source=self.name, known=digest.known, changed=changed
        )
        if verdict is not Verdict.HELD_BACK:
            return False
        self._metrics.polls.labels(self.name, verdict.value).inc()
        self._health.hold(asked_at, [change.entity_id for change in digest.doubtful()])
        self._health.expect(self._turn_at, self._source.interval_s)
        return True

    async def _mint(self, changes: Sequence[Change], seen: Observation) -> None:
        """Commit changes in batches, and remember what was committed."""
        for batch in batches(changes):
            done = await self._writer.mint(batch, self._clock.now())
            self._memory.adopt(done, seen)
            for change in done:
                for event in change.events:
                    self._metrics.events.labels(self.name, event.type).inc()
            if len(done) < len(batch):
                raise ConflictError

    async def _succeeded(self, started: datetime, total: Digest, watermark: datetime) -> None:
        self._doubt.settled()
        recovered = self._health.succeed(started, total, len(self._memory), self._memory.open())
        self._health.expect(self._turn_at, self._source.interval_s)
        if recovered:
            await self._tell("relay.source.recovered")
        expired = self._memory.expired(self._clock.now(), self._keep, EXPIRE_BATCH)
        await self._mint(expired, Observation(self.name, started))
        await self._save(watermark)

    def _finished(self, started: datetime, total: Digest, seconds: float) -> None:
        fates = {"read": total.rows, "invalid": total.invalid.total(), "older": total.older}
        self._metrics.polled(self.name, started.timestamp(), seconds, fates)
        fates |= {"events": total.events, "entities": len(self._memory), "duration_ms": round(seconds * 1000)}
        level = logging.INFO if total.events or total.invalid or total.older else logging.DEBUG
        log.log(level, "poll.done", source=self.name, **fates)

    async def _failed(self, error: FetchError) -> float:
        """Seconds from the beginning of this turn to the next one, if the upstream does not ask for more."""
        self._doubt.failed()
        degraded, news = self._health.fail(error.reason, str(error), self._clock.now())
        self._metrics.polls.labels(self.name, error.reason).inc()
        (log.warning if news else log.debug)(
            "poll.failed", source=self.name, reason=error.reason, detail=str(error), failures=self._health.failures
        )
        if degraded:
            await self._tell("relay.source.degraded")
        asked_s = min(error.retry_after_s or 0.0, MAX_ASKED_S)
        self._rest.hold_off(asked_s)
        pause_s = poll_backoff_s(self._health.failures, self._source.interval_s, self._rng.random())
        wait_until = self._clock.now() + timedelta(seconds=asked_s) if asked_s else None
        self._health.expect(self._turn_at, pause_s, wait_until)
        await self._save(self._watermark)
        return pause_s

    async def _save(self, watermark: datetime | None) -> None:
        """Write watermark and status; fenced like every write of the source's holder."""
        mark = {} if watermark is None else {f"wm:{self.name}": watermark.isoformat()}
        await self._writer.write((), {f"status:{self.name}": self._health.status(), **mark})
        self._watermark = watermark

    async def _tell_gap(self, start: datetime, end: datetime) -> None:
        if rfc3339(start) != self._health.gap_told():  # a poll that fails half-way meets it again
            await self._tell("relay.source.gap", (start, end))

    async def _tell(self, event_type: str, gap: tuple[datetime, datetime] | None = None) -> None:
        """Mint one of the relay's own events about this source."""
        change = health_change(self.name, event_type, self._health, self._clock.now(), gap)
        minted = await self._writer.write([(OWN, change)])
        if minted.conflicts:
            raise ConflictError
        self._health.stored = change.new
        span = {} if gap is None else {"start": rfc3339(gap[0]), "end": rfc3339(gap[1])}
        log.log(_LEVELS[event_type.rpartition(".")[2]], event_type.removeprefix("relay."), source=self.name, **span)
        self._metrics.events.labels(OWN, event_type).inc()
