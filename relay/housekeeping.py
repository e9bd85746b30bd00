"""Retention: events and attempts that have outlived it are removed. One replica at a time does it."""

import asyncio

import structlog

from relay.leases import Leases
from relay.store.deliveries import DeliveryStore
from relay.store.errors import STORE_ERRORS
from relay.store.keys import SHARDS
from relay.store.log import TRIM_BATCH, LogStore

EVERY_S = 60.0
FIRST_SHARD = 0
"""Whoever holds this delivery shard keeps house."""

log = structlog.get_logger()


class Housekeeping:
    """Trims the log with its index, and the attempts of all shards."""

    def __init__(
        self,
        log_store: LogStore,
        deliveries: DeliveryStore,
        leases: Leases,
        *,
        keep_events_s: float,
        keep_attempts_s: float,
    ) -> None:
        self._log = log_store
        self._deliveries = deliveries
        self._leases = leases
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
        removed = 0
        try:
            while trimmed := await self._log.trim(now_ms - int(self._keep_events_s * 1000)):
                removed += trimmed
                if trimmed < TRIM_BATCH:
                    break
            await self._deliveries.trim_attempts(range(SHARDS), now_ms - int(self._keep_attempts_s * 1000))
        except STORE_ERRORS as error:
            log.warning("housekeeping.store_error", error=type(error).__name__)
        if removed:
            log.info("housekeeping.trimmed", events=removed)
