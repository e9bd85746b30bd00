"""The dispatcher, put together: its loops under one task group.

Each loop loads, lets a lane or a shard decide, and stores. Whatever the store cannot take is repeated, and what it
fences is dropped: the new holder begins from the last commit, with the same ids.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from relay.attempts import Attempter
from relay.clock import Clock
from relay.core.keyring import Keyring
from relay.core.log import Place
from relay.dispatcher.board import Board
from relay.dispatcher.commits import Commits
from relay.dispatcher.erased import Erased
from relay.dispatcher.holdings import Holdings
from relay.dispatcher.lane import PROBES
from relay.dispatcher.notices import Notices
from relay.dispatcher.receivers import Receivers
from relay.dispatcher.rests import Rests
from relay.dispatcher.retries import Retries
from relay.dispatcher.sorting import Sorting
from relay.dispatcher.tail import Tail
from relay.dispatcher.workers import Workers
from relay.durable import Durable
from relay.leases import Leases
from relay.store import Store
from relay.store.errors import STORE_ERRORS
from relay.store.keys import SHARDS
from relay.telemetry import Metrics

STORE_PAUSE_S = 0.5
ROOM = 100
"""So many deliveries a replay may have waiting: enough for a quick subscriber, and half of what fills a lane."""
LAST_COMMITS_S = 3.0
"""How long a drain tries to commit; what a store that is away does not take is made again by the next holder."""
TOLD_EVERY = 60
"""Of the failures in a row of one loop the first is told, and then every so many."""

log = structlog.get_logger()

Turn = Callable[[], Awaitable[None]]


class Dispatcher:
    """Delivers for the shards whose leases this replica holds."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        attempter: Attempter,
        leases: Leases,
        clock: Clock,
        metrics: Metrics,
        *,
        rng: random.Random,
        wait_replicas: int,
        notice_after_s: float,
        disable_after_s: float,
        keep_attempts_s: float,
        on_control: Callable[[str, str], None],
    ) -> None:
        self._metrics = metrics
        self._tasks = asyncio.TaskGroup()
        self._board = board = Board()
        self._leases = leases
        self._tell_others = on_control
        receivers = Receivers(keyring)
        self._notices = Notices(
            store.registry, store.deliveries, clock, notice_after_s=notice_after_s, disable_after_s=disable_after_s
        )
        self._erased = Erased(board, clock)
        self._workers = workers = Workers(
            board, attempter, leases, clock, metrics, rng, self._notices, self._erased, self._tasks
        )
        self._commits = Commits(board, store.deliveries, leases, clock, keep_attempts_s=keep_attempts_s)
        self._holdings = Holdings(
            board,
            store.log,
            store.deliveries,
            store.registry,
            store.pulses,
            receivers,
            workers,
            leases,
            clock,
            commit=self._commits.commit,
            restart=self._restart,
            look_back=self._look_back,
        )
        self._sorting = Sorting(
            board, store.log, store.deliveries, commit=self._commits.commit, resume=self._holdings.resume
        )
        self._tail = Tail(
            board,
            store.log,
            receivers,
            workers,
            durable=Durable(store.log, wait_replicas),
            on_subscriber=self._holdings.refresh,
            on_control=self._control,
        )
        self._rests = Rests(board, workers, clock, leases)
        self._retries = Retries(board, store.deliveries, store.log, workers, leases)

    async def run(self) -> None:
        """Deliver for ever."""
        await self._until_done(self._tail.begin)
        await self._until_done(self._holdings.begin)
        turns: tuple[Turn, ...] = (
            self._tail.turn,
            self._holdings.turn,
            self._holdings.feed,
            self._retries.turn,
            self._rests.turn,
            self._commits.turn,
            self._notices.turn,
            self._erased.turn,
            *(partial(self._sorting.turn, number) for number in range(SHARDS)),
        )
        async with self._tasks as tasks:
            for turn in turns:
                tasks.create_task(self._for_ever(turn))

    async def drain(self, seconds: float) -> None:
        """Begin no attempt, wait for those under way, commit what they came to."""
        self._board.draining = True
        shards = list(self._board.shards.values())
        await self._workers.finish(shards, seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_COMMITS_S):
                for shard in shards:
                    shard.park_all(self._leases.now_ms())
                    await self._until_done(partial(self._commits.commit, shard))

    def room(self, subscriber_id: str) -> int:
        """How many deliveries may wait for a subscriber beside live ones and retries: 0 while none can be sent."""
        found = self._board.find(subscriber_id)
        if found is None or self._board.draining or found[1].paused or found[1].resting:
            return 0
        return PROBES if found[1].breaker.is_open else ROOM

    def _control(self, kind: str, value: str) -> None:
        """A message from another part of the relay: events were erased, or deliveries made due, or what others know."""
        if kind == "erased":
            return self._erased.tell([Place.parse(place) for place in value.split()])
        if kind == "well":
            self._holdings.try_at_once(value)
        if kind != "due":
            return self._tell_others(kind, value)
        shard = self._board.shards.get(int(value))
        if shard is not None:
            shard.wake_by(self._leases.now_ms())
            self._board.due.set()
        return None

    async def _restart(self) -> None:
        """Follow the log from its end as it is now: the store has lost a tail that was read already."""
        await self._tail.begin()

    async def _look_back(self) -> None:
        """Follow the log anew if the store has come back with less than was read of it."""
        await self._tail.begin_if_lost()

    async def _for_ever(self, turn: Turn) -> None:
        while True:
            await self._until_done(turn)

    async def _until_done(self, turn: Turn) -> None:
        """One turn of a loop, repeated while the store is away."""
        failures = 0
        while True:
            try:
                return await turn()
            except STORE_ERRORS as error:
                self._metrics.store_errors.inc()
                tell = log.warning if failures % TOLD_EVERY == 0 else log.debug
                tell("dispatcher.store_error", error=type(error).__name__, detail=str(error)[:200], failures=failures)
                failures += 1
                await asyncio.sleep(STORE_PAUSE_S)
