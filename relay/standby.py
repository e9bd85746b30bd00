"""A source that another replica polls: what this one must know to step in.

Invariant: a store that has come back empty never passes for a new one. The replica that polled last remembers the
snapshots, so it goes first; if it does not come, the gap since then is told.
"""

import asyncio
import contextlib
from datetime import datetime

from relay.clock import first_of
from relay.leases import TTL_S, Leases
from relay.store.errors import STORE_ERRORS
from relay.store.snapshots import SnapshotStore

LOOK_S = 30.0
GIVE_WAY_S = 2 * TTL_S


class Standby:
    """How far one source was read by others, as far as this replica has seen."""

    def __init__(self, source: str, store: SnapshotStore, leases: Leases) -> None:
        self._source = source
        self._store = store
        self._leases = leases
        self._gave_way = False
        self.seen: datetime | None = None
        """The latest watermark that stood in the store while somebody else polled."""

    async def wait(self, changed: asyncio.Event, told: asyncio.Event) -> None:
        """Look how far the holder has come; then wait for one of these, but not for ever."""
        with contextlib.suppress(*STORE_ERRORS):
            (text,) = await self._store.meta(f"wm:{self._source}")
            self.seen = datetime.fromisoformat(text) if text else self.seen
        await first_of(LOOK_S, changed, told)

    def gives_way(self, ours: datetime | None, stored: datetime | None) -> bool:
        """Leave an emptied store to whoever polled last, once; `ours` is how far this replica has read itself."""
        if stored is not None:
            self._gave_way = False
        elif self.seen is not None and (ours is None or ours < self.seen) and not self._gave_way:
            self._gave_way = True
            self._leases.decline(self._source, GIVE_WAY_S)
            return True
        return False
