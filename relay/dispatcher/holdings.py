"""The shards that this replica holds, their lanes, and the feeding of lanes that lag behind the tail.

Invariant: a shard is on the board only with a lane for every subscriber that it has. The shard's cursor speaks for all
subscribers without one of their own, so a subscriber without a lane would lose what the cursor passes.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from relay.clock import first_of
from relay.core.envelope import Receiver
from relay.core.log import BEHIND_MS, START, Entry, Place, Waiting
from relay.core.pulse import NO_PULSE, Pulse
from relay.dispatcher.board import Board
from relay.dispatcher.chains import Entity, entity_of
from relay.dispatcher.lane import Lane
from relay.dispatcher.receivers import Receivers
from relay.dispatcher.shard import SLOW_S, Shard
from relay.dispatcher.workers import Workers
from relay.leases import Leases
from relay.store.deliveries import SHARD_CURSOR, DeliveryStore
from relay.store.keys import SHARDS, shard_of
from relay.store.log import LogStore
from relay.store.pulses import PulseStore
from relay.store.registry import RegistryStore

FEED_CHUNK = 256


class Chunk(NamedTuple):
    """Events that stand next to each other in the log, read up to `until`."""

    entries: Sequence[Entry]
    until: Place


class Holdings:
    """Takes shards up, lets them go, and keeps their lanes fed."""

    def __init__(
        self,
        board: Board,
        log_store: LogStore,
        deliveries: DeliveryStore,
        registry: RegistryStore,
        pulses: PulseStore,
        receivers: Receivers,
        workers: Workers,
        leases: Leases,
        *,
        commit: Callable[[Shard], Awaitable[None]],
        restart: Callable[[], Awaitable[None]],
        look_back: Callable[[], Awaitable[None]],
    ) -> None:
        self._board = board
        self._log = log_store
        self._deliveries = deliveries
        self._registry = registry
        self._pulses = pulses
        self._receivers = receivers
        self._workers = workers
        self._leases = leases
        self._commit = commit
        self._restart = restart
        self._look_back = look_back

    async def begin(self) -> None:
        """Read the registry."""
        while True:
            version = self._receivers.version
            subscribers = await self._registry.all()
            if version == self._receivers.version:  # else a change was read meanwhile that this list may lack
                return self._receivers.replace_all(subscribers)

    async def turn(self) -> None:
        """Take up the shards whose leases came, let go of those that went, wait for the next change."""
        changed = self._leases.changed
        board, leases = self._board, self._leases
        if board.forgotten.is_set():
            await self._restart()
            board.forgotten.clear()
        await self._let_go([one for one in board.shards.values() if one.token != leases.shard_token(one.number)])
        for shard in board.shards.values():
            for lane in shard.lanes.values():
                self._workers.employ(shard, lane)  # they left when the lease was in doubt
        if any(leases.shard_token(number) is not None and number not in board.shards for number in range(SHARDS)):
            await self._look_back()
            await self.begin()  # its retries are dropped if a subscriber is thought to be gone
        for number in range(SHARDS):
            token = leases.shard_token(number)
            if token is not None and number not in board.shards:
                await self._take_up(number, token)
        await first_of(None, changed, board.forgotten)

    async def _let_go(self, shards: Sequence[Shard]) -> None:
        """Commit what can still be committed; the next holder does the rest.

        A lease that is given back is ours in the store for another tick: attempts under way may end, or be parked.
        """
        await self._workers.finish(shards, SLOW_S)
        for shard in shards:
            if shard.token == self._leases.shard_token(shard.number):
                continue  # it was in doubt for a moment only
            shard.park_all(self._leases.now_ms())
            await self._commit(shard)
            if self._board.shards.get(shard.number) is shard:
                del self._board.shards[shard.number]

    async def _take_up(self, number: int, token: int) -> None:
        """Begin each lane at its stored cursor; it goes live once it has caught up."""
        while True:
            version = self._receivers.version
            cursors, mark = await self._deliveries.take_up(number)
            put_off = await self._deliveries.put_off(number)
            pulses = await self._pulses.of_shard(number)
            if version == self._receivers.version:
                break  # every receiver was registered, and got its cursor, before the cursors were read
        shard = Shard(number, token, cursors.get(SHARD_CURSOR), mark=mark)
        shard.wake_by(self._leases.now_ms())  # whatever was made due meanwhile, it is found
        for receiver in self._receivers.all():
            if shard_of(receiver.subscriber.id) == number:
                self._open_lane(shard, receiver, cursors, pulses.get(receiver.subscriber.id, NO_PULSE))
        for one, due_ms in put_off:
            lane = shard.lanes.get(one.subscriber_id)
            if lane and (due_ms < BEHIND_MS or not lane.unsorted):  # the order is no longer wished for
                lane.shelf[str(one)] = None
        for lane in shard.lanes.values():
            shard.release(lane, self._leases.now_ms())
        self._board.shards[number] = shard
        self._board.due.set()

    def _open_lane(self, shard: Shard, receiver: Receiver, cursors: dict[str, Place], pulse: Pulse = NO_PULSE) -> None:
        own = cursors.get(receiver.subscriber.id)
        lane = Lane(receiver, own or cursors.get(SHARD_CURSOR, START), committed=own, pulse=pulse)
        if lane.pulse != pulse:
            shard.group.pulses[lane.id] = lane.pulse
        shard.lanes[lane.id] = lane
        shard.touched.add(lane)
        self._board.hungry.set()
        self._board.dirty.set()

    async def refresh(self, subscriber_id: str) -> None:
        """Take over a change of one subscriber."""
        self._receivers.update(subscriber_id, await self._registry.get(subscriber_id))
        number = shard_of(subscriber_id)
        if number not in self._board.shards:
            return
        cursors = await self._deliveries.cursors(number)
        receiver = self._receivers.get(subscriber_id)
        shard = self._board.shards.get(number)
        if shard is None:
            return
        lane = shard.lanes.get(subscriber_id)
        if receiver is None:
            if lane is not None:
                shard.close_lane(lane)
                self._board.dirty.set()
        elif lane is None:
            self._open_lane(shard, receiver, cursors)
        else:
            before = lane.pulse
            lane.adopt(receiver, self._board.tail)
            if lane.pulse != before:
                shard.group.pulses[lane.id] = lane.pulse
            self._resume(shard, lane)

    def _resume(self, shard: Shard, lane: Lane) -> None:
        """Look at everything about a lane again."""
        shard.release(lane, self._leases.now_ms())
        shard.wake_by(self._leases.now_ms())
        shard.touched.add(lane)
        self._board.due.set()
        self._board.dirty.set()
        self._board.hungry.set()
        self._workers.employ(shard, lane)

    async def feed(self) -> None:
        """Give lanes that are behind the next events from the log, each from its own place."""
        await self._board.hungry.wait()
        self._board.hungry.clear()
        if not self._board.begun:
            return  # whoever begins has everybody fed
        chunks: dict[tuple[Place, int], Chunk] = {}
        try:
            for shard in list(self._board.shards.values()):
                for lane in list(shard.lanes.values()):
                    if lane.unsorted and not lane.in_flight:
                        await self._sort(shard, lane)
                    if lane.hungry:
                        await self._feed_lane(shard, lane, chunks)
        except BaseException:
            self._board.hungry.set()  # whoever was not fed is still hungry
            raise

    async def _sort(self, shard: Shard, lane: Lane) -> None:
        """Learn which events of a lane wait for earlier ones, or forget it, as its subscriber wishes."""
        wish = lane.receiver.subscriber.ordering
        if shard.has_news_of(lane):
            await self._commit(shard)
        async with shard.lock:
            if lane.in_flight or shard.has_news_of(lane):
                return self._board.hungry.set()
            stored = await self._stored(lane)
            if lane.closed or lane.receiver.subscriber.ordering != wish:
                return self._board.hungry.set()
            shard.claimed.difference_update(lane.names_in_chains())
            if wish == "entity":
                lane.sort((one, due_ms, entity) for one, due_ms, entity in stored if entity is not None)
            else:
                lane.unsort()
            for one, due_ms, entity in stored:
                if due_ms >= BEHIND_MS and (wish != "entity" or entity is None):
                    shard.wait(str(one), self._leases.now_ms())
        self._resume(shard, lane)
        return None

    async def _stored(self, lane: Lane) -> list[tuple[Waiting, int, Entity | None]]:
        """A lane's retries, when they are due, and whose events they are (None: trimmed); it is read in portions."""
        retries, found = await self._deliveries.waiting_of(lane.id), list[tuple[Waiting, int, Entity | None]]()
        for at in range(0, len(retries), FEED_CHUNK):
            some = retries[at : at + FEED_CHUNK]
            entries = await self._log.at([one.place for one, _ in some])
            for pair, entry in zip(some, entries, strict=True):
                found.append((*pair, None if entry is None else entity_of(entry)))
        return found

    async def _feed_lane(self, shard: Shard, lane: Lane, chunks: dict[tuple[Place, int], Chunk]) -> None:
        start = lane.read_to
        if start >= self._board.tail:
            if max(start, shard.cursor or START) > self._board.tail:
                return  # a former holder has read further; the tail comes there, and finds the lane hungry
            lane.live = True
        else:
            count = min(FEED_CHUNK, lane.high)
            chunk = chunks.get((start, count))
            if chunk is None:
                until = self._board.tail
                entries = await self._log.after(start, until, count)
                chunk = chunks[start, count] = Chunk(entries, until if len(entries) < count else entries[-1].place)
            if lane.read_to != start or not lane.hungry:
                return
            _fill(lane, chunk, partial(self._receivers.wants, lane.id))
            self._board.hungry.set()
        lane.went_on()
        shard.touched.add(lane)
        self._board.dirty.set()
        self._workers.employ(shard, lane)


def _fill(lane: Lane, chunk: Chunk, wanted: Callable[[Entry], bool]) -> None:
    """Offer a lane what it wants of a chunk, until it is full."""
    for entry in chunk.entries:
        if wanted(entry):
            lane.offer(entry, START)
            if lane.full:
                return
        lane.read_to = entry.place
    lane.read_to = max(lane.read_to, chunk.until)
