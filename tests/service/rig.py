"""A rig for the dispatcher: real subscribers over HTTP, and replicas that can be crashed between any two steps."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

from aiohttp import web

from relay.attempts import Attempter
from relay.clock import SystemClock
from relay.core.keyring import NONCE_BYTES, Keyring
from relay.core.log import START, Place, Waiting
from relay.core.matching import matches
from relay.core.retry import highest_attempt
from relay.core.signing import format_secret
from relay.core.subscriber import StoredSecret, Subscriber
from relay.dispatcher import Dispatcher
from relay.egress import Sender
from relay.leases import Leases
from relay.replays import Replays
from relay.store import Store
from relay.store.connect import connect
from relay.store.deliveries import SHARD_CURSOR
from relay.store.keys import SHARDS, shard_of
from relay.telemetry import Metrics
from tests.helpers import wait_until
from tests.store.minting import Minter

KEYRING = Keyring([b"k" * 32])
SECRET = format_secret(b"s" * 32)
NOTICE_AFTER_S, DISABLE_AFTER_S = 600.0, 432_000.0
SCHEDULE_S = (0.05, 0.1)


class ShiftedClock(SystemClock):
    """The machine's clock, which a test can let jump, as it does for a process that was paused."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        """Seconds, with what was skipped."""
        return super().monotonic() + self.ahead_s


@dataclass(frozen=True, slots=True)
class Hit:
    """One POST as a subscriber saw it."""

    event_id: str
    at: datetime
    headers: dict[str, str]
    body: bytes


Behaviour = Callable[[Hit], Awaitable[int]]


class Hooks:
    """An HTTP server; each subscriber has a path of its own, on which a test can make it misbehave."""

    def __init__(self) -> None:
        self.url = ""
        self.hits: dict[str, list[Hit]] = defaultdict(list)
        self.accepted: dict[str, Counter[str]] = defaultdict(Counter)
        self.behaviours: dict[str, Behaviour] = {}
        self.open: Counter[str] = Counter()
        self.most_open: Counter[str] = Counter()

    async def handle(self, request: web.Request) -> web.Response:
        """Record, behave, answer."""
        name = request.match_info["name"]
        hit = Hit(request.headers["webhook-id"], datetime.now(UTC), dict(request.headers), await request.read())
        self.hits[name].append(hit)
        self.open[name] += 1
        self.most_open[name] = max(self.most_open[name], self.open[name])
        try:
            status = await self.behaviours[name](hit) if name in self.behaviours else 200
        finally:
            self.open[name] -= 1
        if status == 200:
            self.accepted[name][hit.event_id] += 1
        return web.Response(status=status)

    def order(self, name: str) -> list[str]:
        """Ids of events in the order in which they came."""
        return [hit.event_id for hit in self.hits[name]]


class Replica:
    """A dispatcher with its leases on a connection of its own."""

    def __init__(self, store: Store, owner: str, sender: Sender, wait_replicas: int, clock: ShiftedClock) -> None:
        self.store = store
        self.owner = owner
        self.clock = clock
        self.metrics = Metrics()
        rng = random.Random(7)
        self.leases = Leases(
            store.leases, clock, self.metrics, owner=owner, roles="deliver", sources=(), shards=range(SHARDS)
        )
        self.attempter = Attempter(sender, clock, self.metrics, rng, schedule_s=SCHEDULE_S, agent="relay/test")
        self.controls: list[tuple[str, str]] = []
        self.dispatcher = Dispatcher(
            store,
            KEYRING,
            self.attempter,
            self.leases,
            clock,
            self.metrics,
            rng=rng,
            wait_replicas=wait_replicas,
            notice_after_s=NOTICE_AFTER_S,
            disable_after_s=DISABLE_AFTER_S,
            keep_attempts_s=3600,
            on_control=self._control,
        )
        self.replays = Replays(
            store, self.leases, self.metrics, highest_attempt=highest_attempt(0), room=self.dispatcher.room
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Run the loops."""
        works = (self.leases.run(), self.dispatcher.run(), self.replays.run())
        self._tasks = [asyncio.create_task(work) for work in works]

    def _control(self, kind: str, value: str) -> None:
        self.controls.append((kind, value))
        self.replays.on_control(kind, value)

    async def crash(self) -> None:
        """End as `kill -9` does: nothing is given back. A loop that had died by itself fails the test."""
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        assert [one for one in results if one and not isinstance(one, asyncio.CancelledError)] == []

    async def leave(self) -> None:
        """End as SIGTERM does."""
        await self.dispatcher.drain(2.0)
        await self.leases.leave()
        await self.crash()

    @property
    def shards(self) -> dict[int, Any]:
        """What it works on."""
        return self.dispatcher._board.shards

    async def ready(self) -> None:
        """Wait until it holds every shard."""
        # A replica that was killed may have renewed its leases at the last moment: then they have to expire.
        await wait_until(lambda: len(self.shards) == SHARDS, 15, what="all shards held")


class Rig:
    """Subscribers, replicas and what they should have done."""

    def __init__(self, url: str, store: Store, hooks: Hooks, stack: AsyncExitStack) -> None:
        self._url = url
        self._stack = stack
        self.store = store
        self.hooks = hooks
        self.minter = Minter(store)
        self.replicas: list[Replica] = []
        self._subscribers: dict[str, Subscriber] = {}
        self._since: dict[str, Place] = {}

    async def replica(self, *, wait_replicas: int = 0, after: Sequence[Replica] = ()) -> Replica:
        """Build a replica; `after` names those that are known to be dead. Start it yourself."""
        client = await self._stack.enter_async_context(connect(self._url))
        sender = await self._stack.enter_async_context(
            Sender(allow=[ip_network("127.0.0.0/8")], allow_http=True, user_agent="relay/test")
        )
        name = f"replica-{len(self.replicas)}"
        replica = Replica(Store(client), name, sender, wait_replicas, ShiftedClock())
        replica.leases.forget([one.owner for one in after])
        self.replicas.append(replica)
        return replica

    async def started(self, **options: Any) -> Replica:
        """Build a replica, start it and wait until it holds everything."""
        replica = await self.replica(**options)
        replica.start()
        await replica.ready()
        return replica

    async def subscribe(self, name: str, **options: Any) -> Subscriber:
        """Register a subscriber, whose id and path are its name."""
        secret = StoredSecret(sealed=KEYRING.seal(SECRET, name, random.randbytes(NONCE_BYTES)))
        subscriber = Subscriber(id=name, url=f"{self.hooks.url}/{name}", secrets=(secret,), **options)
        await self.store.registry.create(subscriber)
        self._subscribers[name] = subscriber
        self._since[name] = await self.store.log.end()
        return subscriber

    async def change(self, new: Subscriber) -> None:
        """Replace a subscriber."""
        await self.store.registry.replace(self._subscribers[new.id], new)
        self._subscribers[new.id] = new

    async def unsubscribe(self, name: str) -> None:
        """Delete a subscriber."""
        await self.store.registry.delete(self._subscribers.pop(name))

    async def expect_from_now(self, name: str) -> None:
        """Take everything so far for settled, because the test itself has moved a cursor."""
        self._since[name] = await self.store.log.end()

    async def all_accepted(self, name: str, ids: Sequence[str], timeout_s: float = 10.0) -> None:
        """Wait until a subscriber has answered each of these with a 2xx."""
        await wait_until(lambda: set(ids) <= self.hooks.accepted[name].keys(), timeout_s, what=f"{name} got everything")

    async def committed(self, *names: str, timeout_s: float = 10.0) -> None:
        """Wait until nothing is outstanding for these subscribers, as far as the store knows."""

        async def quiet() -> bool:
            end = await self.store.log.end()
            return all([(await self._cursor(one)) >= end and not await self._waiting(one) for one in names])

        await wait_until(quiet, timeout_s, what="everything is committed")

    async def check(self) -> None:
        """Every (event, matching subscriber) is delivered, pending or a dead letter; no cursor beyond the log."""
        entries = await self.store.log.after(START, await self.store.log.end(), 100_000)
        end = entries[-1].place if entries else START
        for name, subscriber in self._subscribers.items():
            cursor = await self._cursor(name)
            assert cursor <= end, f"the cursor of {name} lies beyond the log"
            # In the order in which a delivery moves on, since the replicas still run.
            waiting = {one.place for one in await self._waiting(name)}
            dead = {place for place, _ in await self.store.deliveries.dead(name, 0, 100_000)}
            lost = [
                entry.event_id
                for entry in entries
                if self._since[name] < entry.place <= cursor
                and matches(subscriber, entry.event_type, entry.payload)
                and not self.hooks.accepted[name][entry.event_id]
                and entry.place not in dead | waiting
            ]
            assert lost == [], f"{name} lost events"

    async def _cursor(self, name: str) -> Place:
        cursors = await self.store.deliveries.cursors(shard_of(name))
        return cursors.get(name) or cursors.get(SHARD_CURSOR, START)

    async def _waiting(self, name: str) -> list[Waiting]:
        listed = await self.store.deliveries.waiting(shard_of(name), 0, 100_000)
        return [one for one, _ in listed if one.subscriber_id == name]


@asynccontextmanager
async def rigged(url: str, store: Store) -> AsyncIterator[Rig]:
    """Set up; at the end everything is stopped, and the invariants are checked."""
    hooks = Hooks()
    app = web.Application()
    app.router.add_post("/{name}", hooks.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hooks.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with AsyncExitStack() as stack:
        rig = Rig(url, store, hooks, stack)
        try:
            yield rig
            await rig.check()
        finally:
            for replica in rig.replicas:
                await replica.crash()
            await runner.cleanup()
    await asyncio.sleep(0)


def failing_first(times: int, status: int = 500) -> Behaviour:
    """Refuse each event so many times, then take it."""
    seen: Counter[str] = Counter()

    async def behave(hit: Hit) -> int:
        seen[hit.event_id] += 1
        return status if seen[hit.event_id] <= times else 200

    return behave


async def refuse(_: Hit) -> int:
    """Refuse everything."""
    return 500
