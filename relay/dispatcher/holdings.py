"""The shards that this replica holds, their lanes, and the feeding of lanes that lag behind the tail.

Invariant: a shard is on the board only with a lane for every subscriber that it has. The shard's cursor speaks for all
subscribers without one of their own, so a subscriber without a lane would lose what the cursor passes.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from relay.clock import Clock, first_of
from relay.core.envelope import Receiver
from relay.core.log import BEHIND_MS, START, Entry, Place
from relay.core.pulse import NO_PULSE, Pulse
from relay.dispatcher.board import Board
from relay.dispatcher.chains import STILL_S
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
PUT_OFF = 1000
"""So many put-off retries of a shard that was taken up are read at a time."""


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
        clock: Clock,
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
        self._clock = clock
        self._commit = commit
        self._restart = restart
        self._look_back = look_back

    async def begin(self) -> None:
        """Read the registry; lanes that are open already take over what has changed, as if they had been told."""
        while True:
            version = self._receivers.version
            subscribers = await self._registry.all()
            if version == self._receivers.version:  # else a change was read meanwhile that this list may lack
                break
        self._receivers.replace_all(subscribers)
        shards = self._board.shards
        known = {lane.id: lane.receiver.subscriber for shard in shards.values() for lane in shard.lanes.values()}
        stored = {one.id: one for one in subscribers if shard_of(one.id) in shards}
        for subscriber_id in known.keys() | stored.keys():
            if known.get(subscriber_id) != stored.get(subscriber_id):
                await self.refresh(subscriber_id)

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
            pulses = await self._pulses.of_shard(number)
            if version == self._receivers.version:
                break  # every receiver was registered, and got its cursor, before the cursors were read
        shard = Shard(number, token, cursors.get(SHARD_CURSOR), mark=mark)
        shard.wake_by(self._leases.now_ms())  # whatever was made due meanwhile, it is found
        for receiver in self._receivers.all():
            if shard_of(receiver.subscriber.id) == number:
                self._open_lane(shard, receiver, cursors, pulses.get(receiver.subscriber.id, NO_PULSE))
        self._board.shards[number] = shard
        self._board.due.set()
        self._board.hungry.set()

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
            news = lane.adopt(receiver, self._board.tail)
            if lane.pulse != before:
                shard.group.pulses[lane.id] = lane.pulse
            if news:
                self.resume(shard, lane)

    def try_at_once(self, subscriber_id: str) -> None:
        """Let a subscriber that fails or rests be tried: it is known to be well."""
        if found := self._board.find(subscriber_id):
            shard, lane = found
            lane.try_at_once()
            shard.group.pulses[lane.id] = lane.pulse
            self.resume(shard, lane)

    def resume(self, shard: Shard, lane: Lane) -> None:
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
        await first_of(STILL_S if self._crowds() else None, self._board.hungry)
        self._board.hungry.clear()
        if not self._board.begun:
            return  # whoever begins has everybody fed
        chunks: dict[tuple[Place, int], Chunk] = {}
        try:
            for shard in list(self._board.shards.values()):
                await self._take_put_off(shard)
                if any(lane.to_be_sorted for lane in shard.lanes.values()):
                    self._board.unsorted[shard.number].set()
                for lane in list(shard.lanes.values()):
                    if lane.crowded:
                        lane.read_on(self._clock.monotonic())
                    if lane.hungry:
                        await self._feed_lane(shard, lane, chunks)
        except BaseException:
            self._board.hungry.set()  # whoever was not fed is still hungry
            raise

    async def _take_put_off(self, shard: Shard) -> None:
        """Put the next portion of what a former holder has put off on the shelves; there may be a million of them."""
        if shard.put_off_after is None:
            return
        async with shard.lock:  # none of them is made due or settled while it is on its way here
            page = await self._deliveries.waiting_after([shard.number], shard.put_off_after, PUT_OFF)
            for due_ms, one in page:
                lane, name = shard.lanes.get(one.subscriber_id), str(one)
                left_alone = lane is None or (due_ms >= BEHIND_MS and lane.ordered)
                if lane and not left_alone and not shard.is_taken(name):
                    lane.shelf[name] = None
        if len(page) < PUT_OFF:
            shard.put_off_after = None
        else:
            shard.put_off_after = (page[-1][0], str(page[-1][1]))
            self._board.hungry.set()
        shard.wake_by(self._leases.now_ms())  # whoever looks for due retries clears the shelves too
        self._board.due.set()

    def _crowds(self) -> bool:
        """Whether a lane may have to be let read on, though nothing happens."""
        lanes = (lane for shard in self._board.shards.values() for lane in shard.lanes.values())
        return any(lane.crowded and not (lane.live or lane.paused or lane.resting) for lane in lanes)

    async def _feed_lane(self, shard: Shard, lane: Lane, chunks: dict[tuple[Place, int], Chunk]) -> None:
        start = lane.progress.read_to
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
            if lane.progress.read_to != start or not lane.hungry:
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
        lane.progress.read_to = entry.place
    lane.progress.read_to = max(lane.progress.read_to, chunk.until)
