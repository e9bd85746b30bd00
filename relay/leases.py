"""What this replica may do right now: its leases, renewed by one short script every second or two.

Trust in a lease ends a lease's time after the *sending* of the tick that granted it, on the local monotonic clock:
a replica that was paused or cut off stops by itself, before anybody else can have taken over.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from relay.clock import Clock
from relay.store.errors import STORE_ERRORS
from relay.store.leases import LeaseStore, shard_resource, source_resource
from relay.telemetry import Metrics

TTL_S = 6.0
TICK_S = 1.5
MARGIN_S = 0.5
"""Trust ends this much before the lease does."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Lease:
    """A right to work, with its fencing token."""

    token: int
    until: float
    """Monotonic seconds up to which it may be trusted."""


class Leases:
    """The leases of one replica."""

    def __init__(
        self,
        store: LeaseStore,
        clock: Clock,
        metrics: Metrics,
        *,
        owner: str,
        roles: str,
        sources: Sequence[str],
        shards: Sequence[int],
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._owner = owner
        self._roles = roles
        self._sources = sources
        self._shards = shards
        self._held: dict[str, Lease] = {}
        self._give_back: list[str] = []
        self._declined: dict[str, float] = {}
        """Sources that are left to others, until a monotonic time."""
        self._dead_owners: Sequence[str] = ()
        self._server_ms = 0
        self._asked_at = self._answered_at = 0.0
        self._changed = asyncio.Event()
        self._ticking = asyncio.Lock()
        self._left = False
        self.last_tick: float | None = None
        """Monotonic time of the last answer from the store."""
        self.last_turn = clock.monotonic()
        """Monotonic time of the last attempt to renew, answered or not: it shows that the loop is alive."""

    def token(self, resource: str) -> int | None:
        """Fencing token of a resource that is held and may be worked on now."""
        lease = self._held.get(resource)
        return lease.token if lease and self._clock.monotonic() < lease.until else None

    def source_token(self, source: str) -> int | None:
        """Fencing token of a source."""
        return self.token(source_resource(source))

    def shard_token(self, shard: int) -> int | None:
        """Fencing token of a delivery shard."""
        return self.token(shard_resource(shard))

    def now_ms(self) -> int:
        """The store's clock, which all due times are told by; never ahead of it."""
        return int(self._server_ms + (self._clock.monotonic() - self._answered_at) * 1000)

    def later_ms(self, delay_ms: float) -> int:
        """A time by the store's clock before which this delay has surely passed, whatever the store's answer took."""
        return math.ceil(self._server_ms + 1 + (self._clock.monotonic() - self._asked_at) * 1000 + delay_ms)

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next change of what is held. Get it before looking at the leases, so that none is missed."""
        return self._changed

    def forget(self, dead_owners: Sequence[str]) -> None:
        """Treat these replicas' leases as free: their processes are known to be gone."""
        self._dead_owners = dead_owners

    async def run(self) -> None:
        """Renew for ever; a store that is down is asked again and again."""
        failures, down_since = 0, 0.0
        while True:
            self.last_turn = self._clock.monotonic()
            try:
                await self.tick()
                if failures:
                    log.info("store.reachable", outage_s=round(self._clock.monotonic() - down_since, 1))
                failures = 0
            except STORE_ERRORS as error:
                failures += 1
                self._metrics.store_errors.inc()
                if failures == 1:
                    down_since = self.last_turn
                    log.warning("store.unreachable", error=type(error).__name__, detail=str(error)[:200])
                self._expire()
            await asyncio.sleep(TICK_S if not failures else min(0.2 * failures, TICK_S))

    async def tick(self) -> None:
        """Renew once; nothing after `leave`."""
        async with self._ticking:
            if not self._left:
                await self._tick()

    async def _tick(self) -> None:
        sent, dead_owners = self._clock.monotonic(), self._dead_owners
        held = await self._store.tick(
            self._owner,
            self._roles,
            [name for name in self._sources if name not in self._left_to_others()],
            self._shards,
            ttl_ms=int(TTL_S * 1000),
            give_back=self._give_back,
            dead_owners=dead_owners,
        )
        if self.last_tick is None or sent - self.last_tick > TTL_S:
            log.info("store.ready", leases=len(held.tokens))
        self.last_tick = self._clock.monotonic()
        self._server_ms, self._asked_at, self._answered_at = held.now_ms, sent, self.last_tick
        if self._dead_owners is dead_owners:
            self._dead_owners = ()
        tokens = dict(held.tokens)
        self._give_back = [
            resource
            for prefix, share in (("source.", held.source_share), ("shard.", held.shard_share))
            for resource in sorted(name for name in tokens if name.startswith(prefix))[share:]
        ]
        for resource in (*self._give_back, *map(source_resource, self._left_to_others())):
            tokens.pop(resource, None)
        self._replace({name: Lease(token, sent + TTL_S - MARGIN_S) for name, token in tokens.items()})

    def decline(self, source: str, seconds: float) -> None:
        """Leave a source to other replicas for so long."""
        self._declined[source] = self._clock.monotonic() + seconds
        self._replace({name: lease for name, lease in self._held.items() if name != source_resource(source)})

    async def leave_polling(self) -> None:
        """Give the sources back and keep the shards: what is under way may still end while somebody else polls."""
        self._sources = ()
        self._roles = ",".join(role for role in self._roles.split(",") if role != "poll") or "api"
        self._replace({name: lease for name, lease in self._held.items() if not name.startswith("source.")})
        await self.tick()

    async def leave(self) -> None:
        """Give everything back, so that the next replica need not wait."""
        self._replace({})
        self._left = True
        async with self._ticking:  # a tick under way would join again
            self._replace({})
            await self._store.tick(self._owner, "", (), (), ttl_ms=0)

    def _left_to_others(self) -> list[str]:
        now = self._clock.monotonic()
        return [name for name, until in self._declined.items() if now < until]

    def _expire(self) -> None:
        self._replace(self._trusted())

    def _trusted(self) -> dict[str, Lease]:
        now = self._clock.monotonic()
        return {name: lease for name, lease in self._held.items() if now < lease.until}

    def _replace(self, held: dict[str, Lease]) -> None:
        # What could not be trusted any more is news when it comes back, even with the same token: a loop that looked at
        # the leases in between (the process was paused) waits for a change.
        former, trusted, new = map(_tokens, (self._held, self._trusted(), held))
        self._held = held
        for kind in ("source", "shard"):
            self._metrics.leases.labels(kind).set(sum(name.startswith(f"{kind}.") for name in held))
        if not new == former == trusted:
            self._changed.set()
            self._changed = asyncio.Event()


def _tokens(leases: Mapping[str, Lease]) -> dict[str, int]:
    return {name: lease.token for name, lease in leases.items()}
