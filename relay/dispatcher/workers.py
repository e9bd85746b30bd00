"""Attempts under way: as many per lane as its subscriber allows."""

import asyncio
import contextlib
import random
from collections.abc import Collection

from relay.attempts import Attempter
from relay.clock import Clock
from relay.core.log import Attempt, Waiting
from relay.core.outcome import Outcome, Reply
from relay.core.retry import GONE, Verdict
from relay.dispatcher.board import Board
from relay.dispatcher.erased import Erased
from relay.dispatcher.item import Item
from relay.dispatcher.lane import PROBES, Lane
from relay.dispatcher.notices import Notices
from relay.dispatcher.shard import Shard
from relay.leases import Leases
from relay.telemetry import Metrics

CAPACITY = 1500
"""Attempts under way at most, for all subscribers together; below the sender's number of connections."""
HELD_MS = 1000
"""A delivery that is to be made again, but has lost its place in the queue, is looked at after this."""
SHARE = 0.25
"""A lane may have so much of what is free under way: however many hang, something is left for the others."""


TRIALS_PER_S, TRIALS_AT_ONCE = 50.0, 5
"""Attempts that subscribers in doubt have between them: however many fail at once, most of the time is left."""


class Workers:
    """Takes deliveries from lanes, attempts them, and notes what they came to in the shard's group."""

    def __init__(
        self,
        board: Board,
        attempter: Attempter,
        leases: Leases,
        clock: Clock,
        metrics: Metrics,
        rng: random.Random,
        notices: Notices,
        erased: Erased,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._erased = erased
        self._board = board
        self._attempter = attempter
        self._leases = leases
        self._clock = clock
        self._metrics = metrics
        self._rng = rng
        self._notices = notices
        self._tasks = tasks
        self._quiet = asyncio.Event()
        self._busy = 0
        self._crowded: dict[Lane, Shard] = {}
        """Lanes that had no room, the longest-waiting first."""
        self._last_trial = 0.0
        """Monotonic time of the last trial that was given away."""

    def employ(self, shard: Shard, lane: Lane) -> None:
        """Give a lane as many workers as it has work for, within its cap."""
        if self._board.draining or lane.paused:
            return
        for _ in range(min(lane.queued, lane.cap - lane.workers)):
            lane.workers += 1
            self._tasks.create_task(self._work(shard, lane))

    async def finish(self, shards: Collection[Shard], seconds: float) -> None:
        """Wait until nothing of these shards is under way, but no longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(shard.in_flight for shard in shards):
                    self._quiet.clear()
                    await self._quiet.wait()

    async def _work(self, shard: Shard, lane: Lane) -> None:
        try:
            while lane.workers <= lane.cap and self._may_send(shard, lane):
                now = self._clock.monotonic()
                wait_s = lane.wait_s(now)
                if wait_s == 0 and lane.doubtful:
                    wait_s = self._trial_wait_s(lane, now)
                if wait_s:
                    self._board.wake_at(shard, lane, now + wait_s)
                if wait_s == 0 and not self._has_room(lane):
                    self._crowded[lane] = shard
                    break
                item = lane.take(now) if wait_s == 0 else None
                if item is None:
                    break
                lane.trial_at = None
                if self._erased.holds(item):
                    self._forgo(shard, lane, item)
                else:
                    await self._deliver(shard, lane, item)
                self._ask_for_more(shard, lane)
        finally:
            lane.workers -= 1
            self._ask_for_more(shard, lane)  # also if there was nothing to attempt

    def _ask_for_more(self, shard: Shard, lane: Lane) -> None:
        """Have a lane fed before it runs dry: from the log, and from its shelf."""
        if lane.hungry or lane.unsorted:
            self._board.hungry.set()
        if lane.shelf and lane.queued < PROBES:
            shard.wake_by(self._leases.now_ms())
            self._board.due.set()

    def _has_room(self, lane: Lane) -> bool:
        """Whether the lane may have one more attempt under way: one at least, as long as anything is free."""
        free = CAPACITY - self._busy
        return free > 0 and lane.in_flight < max(1.0, free * SHARE)

    def _trial_wait_s(self, lane: Lane, now: float) -> float:
        """Seconds until a lane in doubt may have its next attempt: they have them one after the other."""
        if lane.trial_at is None:
            earliest = max(self._last_trial, now - TRIALS_AT_ONCE / TRIALS_PER_S)
            self._last_trial = lane.trial_at = earliest + 1 / TRIALS_PER_S
        return max(lane.trial_at - now, 0.0)

    def _make_room(self) -> None:
        """Something has become free: whoever has waited longest for it, and can still use it, may try again."""
        while self._crowded:
            lane = next(iter(self._crowded))
            shard = self._crowded.pop(lane)
            if self._may_send(shard, lane) and lane.wait_s(self._clock.monotonic()) == 0 and lane.queued:
                return self.employ(shard, lane)
        return None

    def _may_send(self, shard: Shard, lane: Lane) -> bool:
        """Not draining, the lease still to be trusted, the shard not dropped, the subscriber still there."""
        board = self._board
        held = board.shards.get(shard.number) is shard and self._leases.shard_token(shard.number) == shard.token
        return held and not board.draining and not lane.closed

    async def _deliver(self, shard: Shard, lane: Lane, item: Item) -> None:
        if shard.started(lane, item, self._clock.monotonic()):
            self._board.dirty.set()  # so that the committer looks again when this attempt has become slow
        shard.in_flight += 1
        lane.in_flight += 1
        self._busy += 1
        receiver, breaker = lane.receiver, lane.breaker
        try:
            attempt, reply = await self._attempter.attempt(
                receiver, item.entry, item.attempt_no, hold=item.probe and item.holds_cursor
            )
        finally:
            shard.in_flight -= 1
            lane.in_flight -= 1
            self._busy -= 1
            self._quiet.set()
        attempt = self._erased.last_of(item, attempt)
        shard.finished(item)
        unchanged = breaker is lane.breaker  # else its answer says nothing about the subscriber as it is now
        probe_failed = attempt.verdict == Verdict.HELD and item.probe and item.holds_cursor
        held = probe_failed and unchanged and lane.hold(item, self._board.tail)
        if not held:
            lane.settle(item)
        if not lane.closed:  # else the delivery is gone with its subscriber
            lane.ended(item, Verdict.DELIVERED if self._erased.holds(item) else attempt.verdict, held=held)
            shard.touched.add(lane)
            self._note(shard, lane, item, attempt, held=held)
            if unchanged:
                self._judge(shard, lane, item, reply)
                self._take_pulse(shard, lane, reply)
        self._board.dirty.set()
        self._make_room()

    def _forgo(self, shard: Shard, lane: Lane, item: Item) -> None:
        """Settle a delivery whose event was erased, without an attempt."""
        if item.probe:
            lane.breaker.probing = False
        shard.finished(item)
        lane.settle(item)
        lane.ended(item, Verdict.DELIVERED, held=False)  # as far as those go that wait for it
        shard.touched.add(lane)
        self._board.dirty.set()

    def _judge(self, shard: Shard, lane: Lane, item: Item, reply: Reply) -> None:
        """Let the breaker know, and let the lane rest or go on accordingly."""
        now, board = self._clock.monotonic(), self._board
        lane.breaker.ended(reply, now, self._rng.random(), probe=item.probe)
        lane.window.ended(reply)
        if reply.status == GONE:
            lane.gone = True
            shard.rest(lane, board.tail)
        elif lane.breaker.open_until is not None:
            shard.rest(lane, board.tail)
            board.wake_at(shard, lane, lane.breaker.open_until)
        elif item.probe or lane.resting:
            lane.resting = False
            shard.release(lane, self._leases.now_ms())
            board.due.set()
            board.hungry.set()
        if lane.queued and lane.workers < lane.cap:
            self.employ(shard, lane)

    def _take_pulse(self, shard: Shard, lane: Lane, reply: Reply) -> None:
        """Keep how the subscriber is doing, and let it be told of."""
        now_ms, delivered = self._leases.now_ms(), reply.outcome is Outcome.DELIVERED
        open_until = lane.breaker.open_until
        rest_ms = None if open_until is None else (open_until - self._clock.monotonic()) * 1000
        until_ms = None if rest_ms is None else now_ms + int(rest_ms)
        lane.pulse = lane.pulse.noted(reply, now_ms, delivered=delivered).resting(until_ms)
        shard.group.pulses[lane.id] = lane.pulse
        self._notices.observe(lane, reply, now_ms)

    def _note(self, shard: Shard, lane: Lane, item: Item, attempt: Attempt, *, held: bool) -> None:
        shard.group.attempts.append(attempt)
        now_ms = self._leases.now_ms()
        if attempt.next_ms is not None:
            delay_ms = attempt.next_ms - attempt.started_ms - attempt.duration_ms
            retry = str(Waiting(lane.id, item.entry.place, item.attempt_no + 1))
            shard.wait(retry, self._leases.later_ms(delay_ms))
            self._board.due.set()
        elif attempt.verdict == Verdict.HELD:
            if not held:  # others may have passed it, so the queue cannot keep its place
                shard.wait(str(Waiting(lane.id, item.entry.place, item.attempt_no)), now_ms + HELD_MS)
                self._board.due.set()
        elif attempt.verdict == Verdict.DEAD:
            shard.group.dead.append((lane.id, now_ms, item.entry.place))
        elif attempt.verdict == Verdict.DELIVERED:
            self._metrics.delivery_seconds.observe(max(now_ms - item.entry.place.ms, 0) / 1000)
