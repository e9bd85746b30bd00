"""Replays, carried out: whoever holds a subscriber's delivery shard sends it a range of the log again.

Invariant: a replay is where its record says, and nowhere else. Each step moves that on together with the deliveries
that it makes due, under the shard's token: a crash or another holder goes on from there, and nothing is left out or
sent twice. What is sent takes the ordinary way of a retry, behind live events, and only so much of it waits at a time.
While nothing is replayed the store is asked once a minute; a replay whose subscriber can take nothing asks nothing.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from relay.arrears import Stretch, read_stretch
from relay.clock import first_of
from relay.core.log import Place
from relay.core.replay import Ending, Plan, Replay, Status
from relay.core.subscriber import Subscriber
from relay.leases import Leases
from relay.store import Store
from relay.store.errors import STORE_ERRORS
from relay.store.keys import shard_of
from relay.store.replays import UnreadableReplayError, Verdict
from relay.telemetry import Metrics

LOOK_S: Final = 60.0
"""A message about a new replay may be missed; it is found after this at the latest."""
SHORT_S: Final = 0.02
LONG_S: Final = 1.0
LONGER: Final = 1.3
"""Pauses between looks at how much still waits, and how they grow as long as nothing moves."""
STORE_PAUSE_S: Final = 0.5
LEFT: Final = 500
"""Of what is due when a replay is taken up so much is looked at, to see how much of it waits already."""
READERS: Final = 2
"""So many replays read the log at a time; the others wait, so that live traffic is not held up."""
_MISTAKE: Final = "the relay has made a mistake: its log tells more under replay.failed"
_UNREADABLE: Final = "the replica that was to carry it out runs another version of the relay, and cannot read it"

log = structlog.get_logger()


class _OverError(Exception):
    """This replica has nothing more to do with the replay."""


class Replays:
    """One task for each replay of the shards that are held here.

    `room` says how many deliveries beside live ones a subscriber can be given now; it is asked often.
    """

    def __init__(
        self, store: Store, leases: Leases, metrics: Metrics, *, highest_attempt: int, room: Callable[[str], int]
    ) -> None:
        self._store = store
        self._leases = leases
        self._metrics = metrics
        self._highest = highest_attempt
        self._room = room
        self._readers = asyncio.Semaphore(READERS)
        self._news = asyncio.Event()
        self._works: dict[tuple[str, int], tuple[_Work, asyncio.Task[None]]] = {}
        """By id and the token under which it is carried out."""

    def on_control(self, kind: str, value: str) -> None:
        """A message to every replica: a replay has begun or ended, or a subscriber has changed or is well."""
        if kind == "replay":
            self._news.set()
        elif kind in ("subscriber", "well"):
            for work, _ in self._works.values():
                work.changed(value)

    async def run(self) -> None:
        """Carry out for ever what there is."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                changed = self._leases.changed
                self._news.clear()
                pause_s = LOOK_S
                try:
                    await self._look(tasks)
                except STORE_ERRORS as error:
                    log.debug("replay.store_error", error=type(error).__name__)
                    pause_s = STORE_PAUSE_S
                await first_of(pause_s, changed, self._news)

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        """Begin what this replica is to carry out, and drop what it is not."""
        due: dict[tuple[str, int], str] = {}
        for subscriber_id, replay_id in (await self._store.replays.running()).items():
            token = self._leases.shard_token(shard_of(subscriber_id))
            if token is not None:
                due[replay_id, token] = subscriber_id
        for key in [one for one in self._works if one not in due]:
            self._works.pop(key)[1].cancel()
        for (replay_id, token), subscriber_id in due.items():
            if (replay_id, token) not in self._works:
                work = _Work(
                    self._store,
                    self._metrics,
                    (subscriber_id, replay_id, token),
                    highest=self._highest,
                    may_go_on=self._may_go_on(subscriber_id, token),
                    room=self._room,
                    readers=self._readers,
                )
                self._works[replay_id, token] = work, tasks.create_task(self._carry_out((replay_id, token), work))

    def _may_go_on(self, subscriber_id: str, token: int) -> Callable[[], bool]:
        shard = shard_of(subscriber_id)
        return lambda: self._leases.shard_token(shard) == token

    async def _carry_out(self, key: tuple[str, int], work: "_Work") -> None:
        try:
            await work.run()
        finally:
            if key in self._works and self._works[key][0] is work:
                del self._works[key]


class _Work:
    """One replay, as far as this replica carries it out."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        which: tuple[str, str, int],
        *,
        highest: int,
        may_go_on: Callable[[], bool],
        room: Callable[[str], int],
        readers: asyncio.Semaphore,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._subscriber_id, self._id, self._token = which
        self._highest = highest
        self._may_go_on = may_go_on
        self._room = room
        self._readers = readers
        self._due: list[str] = []
        """Names among the retries of what was made due, as far as nobody has attempted it yet."""
        self._pause_s = SHORT_S
        self._news = asyncio.Event()
        self._stale = False
        """The subscriber has changed: what was read for it is to be read again."""

    def changed(self, subscriber_id: str) -> None:
        """A subscriber has changed; it may be this replay's."""
        if subscriber_id == self._subscriber_id:
            self._stale = True
            self._news.set()

    async def run(self) -> None:
        """Go on until it has ended or is no longer this replica's. A store that is down is tried again and again."""
        begun, failed = False, ""
        while True:
            try:
                if failed:
                    return await self._end("failed", failed)
                replay, subscriber = await self._load()
                if not begun:
                    log.info("replay.begun", replay=self._id, subscriber=self._subscriber_id, at=str(replay.at))
                    begun = True
                if await self._go_through(replay, subscriber):
                    return await self._finish()
            except _OverError:
                return None
            except STORE_ERRORS as error:
                self._metrics.store_errors.inc()
                log.debug("replay.store_error", error=type(error).__name__)
                await asyncio.sleep(STORE_PAUSE_S)
            except UnreadableReplayError:
                log.warning("replay.unreadable", replay=self._id, subscriber=self._subscriber_id)
                failed = _UNREADABLE
            except Exception:
                # What one replay stumbles over must not end the process, and again at every start.
                log.exception("replay.failed", replay=self._id, subscriber=self._subscriber_id)
                failed = _MISTAKE
                await asyncio.sleep(STORE_PAUSE_S)

    async def _load(self) -> tuple[Replay, Subscriber]:
        self._stale = False
        replay = await self._store.replays.get(self._subscriber_id, self._id)
        subscriber = await self._store.registry.get(self._subscriber_id)
        if replay is None or subscriber is None or replay.ending is not None:
            raise _OverError
        self._due = list(dict.fromkeys([*self._due, *await self._already_due()]))
        return replay, subscriber

    async def _already_due(self) -> list[str]:
        """What a former holder, or this one before an error, has left to be attempted: it counts as waiting."""
        now_ms = await self._store.deliveries.now_ms()
        listed = await self._store.deliveries.due(shard_of(self._subscriber_id), now_ms, LEFT)
        return [str(one) for one in listed if one.subscriber_id == self._subscriber_id]

    async def _go_through(self, replay: Replay, subscriber: Subscriber) -> bool:
        """Send the rest of the range; False: it is to be loaded again."""
        at, plan = replay.at, replay.plan
        while at < plan.until:
            async with self._readers:
                stretch = await read_stretch(self._store, plan, subscriber, at)
                if stretch.doubts is not None:
                    await stretch.doubts.read()
            while at < stretch.reached:
                room = await self._wait_for_room()
                moved = None if self._stale else await self._step(plan, at, stretch, room)
                if moved is None:
                    return False
                at = moved
        while self._due and not self._stale:
            await self._wait_for_room(until_empty=True)
        return not self._stale

    async def _step(self, plan: Plan, at: Place, stretch: Stretch, room: int) -> Place | None:
        """Hand over what there is room for; the place reached, None if the record stands elsewhere."""
        if stretch.doubts is not None:
            await stretch.doubts.read()  # what was acknowledged since
        events, reach = stretch.next(room)
        step = await self._store.replays.step(plan, self._token, at, reach, events, self._highest)
        if step.verdict in (Verdict.FENCED, Verdict.STOPPED):
            raise _OverError
        if step.verdict is Verdict.MOVED:
            return None
        self._due += step.due
        self._metrics.replayed.inc(len(step.due))
        stretch.pass_by(step.passed)
        if step.passed == len(events):
            return reach
        await self._wait()  # the cursor comes there by itself
        return events[step.passed - 1][0] if step.passed else at

    async def _wait_for_room(self, *, until_empty: bool = False) -> int:
        """How much may be handed over; waits until that is something, or (`until_empty`) until nothing waits."""
        while not self._stale:
            if not self._may_go_on():
                raise _OverError
            room = self._room(self._subscriber_id)
            if not room:
                await self._wait()
                continue
            before = len(self._due)
            # What waits for others counts as long as anything moves: one that fails for days must not stop the rest.
            behind = self._pause_s < LONG_S
            self._due = await self._store.replays.outstanding(self._subscriber_id, self._due, behind=behind)
            waiting = len(self._due)
            if waiting < before:
                self._pause_s = SHORT_S
            if waiting == 0 or (waiting <= room // 2 and not until_empty):
                return room - waiting
            await self._wait()
        return 0

    async def _wait(self) -> None:
        """Wait, the longer the longer nothing has moved; a change of the subscriber ends it."""
        self._news.clear()
        await first_of(self._pause_s, self._news)
        self._pause_s = min(LONGER * self._pause_s, LONG_S)

    async def _finish(self) -> None:
        await self._end("done")
        ended = await self._store.replays.get(self._subscriber_id, self._id)
        if ended is not None:
            counts = {"matched": ended.matched, "sent": ended.sent}
            log.info("replay.ended", replay=self._id, subscriber=self._subscriber_id, status=ended.status, **counts)

    async def _end(self, status: Status, reason: str | None = None) -> None:
        ending = Ending(status, await self._store.deliveries.now_ms(), reason)
        await self._store.replays.end(self._subscriber_id, self._id, ending)
