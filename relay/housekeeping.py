"""Retention: what has outlived it is removed (events, attempts, dead letters), and the disk rid of what was erased.

A dead letter is listed for as long after its death as an event is kept, so that nobody loses it in silence, and nothing
that the relay writes for each event or delivery grows for ever. One replica at a time keeps house.
"""

import asyncio
from collections.abc import Sequence

import structlog

from relay.core.log import START, Entry, just_before
from relay.core.matching import matches
from relay.leases import Leases
from relay.store.deliveries import SHARD_CURSOR, DeliveryStore
from relay.store.disk import Disk
from relay.store.errors import STORE_ERRORS
from relay.store.keys import SHARDS, shard_of
from relay.store.log import TRIM_BATCH, LogStore
from relay.store.registry import RegistryStore

EVERY_S = 60.0
FIRST_SHARD = 0
"""Whoever holds this delivery shard keeps house."""

log = structlog.get_logger()


class Housekeeping:
    """Trims the log with its index, the attempts of all shards, old dead letters, and what waits for nobody."""

    def __init__(
        self,
        log_store: LogStore,
        deliveries: DeliveryStore,
        leases: Leases,
        *,
        registry: RegistryStore,
        disk: Disk,
        keep_events_s: float,
        keep_attempts_s: float,
    ) -> None:
        self._log = log_store
        self._deliveries = deliveries
        self._leases = leases
        self._registry = registry
        self._disk = disk
        self._keep_events_s = keep_events_s
        self._keep_attempts_s = keep_attempts_s

    async def run(self) -> None:
        """Keep house for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            if self._leases.shard_token(FIRST_SHARD) is not None:
                await self._tidy()

    async def _tidy(self) -> None:
        now_ms = self._leases.now_ms()
        removed, before_ms = 0, now_ms - int(self._keep_events_s * 1000)
        try:
            while True:
                await self._bury(await self._log.after(START, just_before(before_ms), TRIM_BATCH), now_ms)
                trimmed = await self._log.trim(before_ms)
                removed += trimmed
                if trimmed < TRIM_BATCH:
                    break
            await self._registry.drop_orphans(range(SHARDS))
            await self._disk.turn()
            await self._deliveries.trim_attempts(range(SHARDS), now_ms - int(self._keep_attempts_s * 1000))
            await self._registry.trim_dead(before_ms)
        except STORE_ERRORS as error:
            log.warning("housekeeping.store_error", error=type(error).__name__)
        if removed:
            log.info("housekeeping.trimmed", events=removed)

    async def _bury(self, entries: Sequence[Entry], now_ms: int) -> None:
        """List what is about to go as dead letters of the subscribers that have not had it: nobody loses in silence."""
        if not entries:
            return
        cursors = {shard: await self._deliveries.cursors(shard) for shard in range(SHARDS)}
        for subscriber in await self._registry.all():
            of_shard = cursors[shard_of(subscriber.id)]
            cursor = of_shard.get(subscriber.id) or of_shard.get(SHARD_CURSOR, START)
            missed = [
                entry.place
                for entry in entries
                if entry.place > cursor and matches(subscriber, entry.event_type, entry.payload)
            ]
            if missed:
                await self._deliveries.bury(subscriber.id, missed, now_ms)
                log.warning("housekeeping.buried", subscriber=subscriber.id, events=len(missed))
