"""The durability gate: nobody is shown an event that a failover could still take back.

A single server with `appendfsync always` answers a read only after what was read is on disk. With replicas an event may
be shown once enough of them have it. Whoever shows events, the dispatcher and the admin API alike, asks here.
"""

from dataclasses import dataclass

import structlog

from relay.core.log import START, Place
from relay.store.log import LogStore

GATE_TIMEOUT_MS = 200

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Shown:
    """The log as it may be shown."""

    end: Place
    """The last place that may be shown."""
    last: Place
    """The last place that was given out: no honest cursor lies beyond it."""
    trimmed: Place
    """Retention has removed everything up to here."""


class Durable:
    """What of a log is on enough replicas (0: of no interest)."""

    def __init__(self, store: LogStore, replicas: int) -> None:
        self._store = store
        self.replicas = replicas
        self._proven = START
        self._told = False

    async def passes(self, place: Place) -> bool | None:
        """Whether the event at `place`, and all before it, may be shown; None: the store holds it no more.

        This takes `GATE_TIMEOUT_MS` at most, since a replica may be away for hours. Whoever has to wait reads the
        store again and asks again: meanwhile the store may have changed its mind, or have other news.
        """
        stands = await self._store.stands(place, self.replicas, GATE_TIMEOUT_MS) if self.replicas else True
        if stands:
            self._proven = max(self._proven, place)
        elif stands is False and not self._told:
            log.warning("store.not_durable", wait_replicas=self.replicas)
        self._told = stands is False
        return stands

    async def shown(self) -> Shown:
        """How far the log may be shown now: to its end, or, if the replicas do not answer, as far as was known."""
        extent = await self._store.extent(self.replicas, GATE_TIMEOUT_MS)
        if extent.durable:
            self._proven = extent.end
        elif self._proven > extent.end:  # the store has lost a tail: what was known of it holds no more
            self._proven = START
        return Shown(self._proven, extent.end, extent.trimmed)

    async def shows(self, place: Place) -> bool:
        """Whether the event at `place` may be shown."""
        return not self.replicas or place <= self._proven or place <= (await self.shown()).end
