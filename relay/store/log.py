"""The event log: reading, finding, trimming."""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.core.log import START, Entry, Place
from relay.store.keys import Keys
from relay.store.payloads import entry_of, with_contents
from relay.store.scripts import Client, Scripts, register

TRIM_BATCH = 500


@dataclass(frozen=True, slots=True)
class News:
    """What a blocking read returned."""

    entries: Sequence[Entry]
    control: Sequence[tuple[Place, str, str]]
    """Place, kind and value of each control message."""


class LogStore:
    """One log, shared by all subscribers."""

    def __init__(self, client: Client, keys: Keys, scripts: Scripts) -> None:
        self._client = client
        self._keys = keys
        self._gate = register(client, "gate", flags=scripts.flags)

    async def end(self) -> Place:
        """Place of the last event, or the start of an empty log."""
        return await self._last(self._keys.log)

    async def control_end(self) -> Place:
        """Place of the last control message."""
        return await self._last(self._keys.ctl)

    async def _last(self, key: str) -> Place:
        last = await self._client.xrevrange(key, count=1)
        return Place.parse(last[0][0]) if last else START

    async def wait(self, log: Place, control: Place, *, block_ms: int, count: int = 500) -> News:
        """Block until something stands after these places, or `block_ms` have passed."""
        reply = await self._client.xread(
            {self._keys.log: str(log), self._keys.ctl: str(control)}, count=count, block=block_ms
        )
        streams = {key.decode(): entries for key, entries in reply.items()}
        entries = await with_contents(self._client, self._keys, streams.get(self._keys.log, ()))
        messages = [
            (Place.parse(place), fields[b"k"].decode(), fields[b"v"].decode())
            for place, fields in streams.get(self._keys.ctl, ())
        ]
        return News(entries, messages)

    async def after(self, place: Place, until: Place, count: int) -> list[Entry]:
        """Up to `count` events after `place`, up to and including `until`."""
        found = await self._client.xrange(self._keys.log, f"({place}", str(until), count)
        return await with_contents(self._client, self._keys, found)

    async def before(self, place: Place | None, count: int) -> list[Entry]:
        """Up to `count` events before `place` (None: from the end), newest first."""
        found = await self._client.xrevrange(self._keys.log, f"({place}" if place else "+", "-", count)
        return await with_contents(self._client, self._keys, found)

    async def at(self, places: Sequence[Place]) -> list[Entry | None]:
        """The events at these places, None where one has been trimmed."""
        pipe = self._client.pipeline(transaction=False)
        for place in places:
            pipe.xrange(self._keys.log, str(place), str(place))
        if not places:
            return []
        pipe.hmget(self._keys.payloads, [str(place) for place in places])
        *replies, contents = await pipe.execute()
        pairs = zip(replies, contents, strict=True)
        return [entry_of(found[0][0], found[0][1], content) if found else None for found, content in pairs]

    async def find(self, event_id: str) -> Entry | None:
        """The event with this id."""
        place = await self._client.hget(self._keys.index(event_id), event_id)
        return None if place is None else (await self.at([Place.parse(place)]))[0]

    async def trim(self, before_ms: int) -> int:
        """Remove events older than this, at most `TRIM_BATCH`; returns how many."""
        if before_ms <= 0:  # retention reaches back beyond 1970, where there is no id
            return 0
        old = await self._client.xrange(self._keys.log, "-", f"({before_ms}-0", TRIM_BATCH)
        if not old:
            return 0
        pipe = self._client.pipeline(transaction=False)
        for _, fields in old:
            event_id = fields[b"i"].decode()
            pipe.hdel(self._keys.index(event_id), event_id)
        last = Place.parse(old[-1][0])
        pipe.xtrim(self._keys.log, minid=f"{last.ms}-{last.no + 1}", approximate=False)
        pipe.hdel(self._keys.payloads, *(place for place, _ in old))  # last: until then it would look erased
        await pipe.execute()
        return len(old)

    async def announce(self, kind: str, value: str) -> None:
        """Tell every replica something through the control stream."""
        await self._client.xadd(self._keys.ctl, {"k": kind, "v": value}, maxlen=10_000)

    async def reach_replicas(self, count: int, timeout_ms: int) -> bool:
        """Whether all that was written before this call has reached `count` replicas.

        WAIT speaks only of the connection's own writes, so one write goes first, on the same connection.
        """
        pipe = self._client.pipeline(transaction=False)
        await self._gate(keys=[self._keys.gate], client=pipe)
        pipe.execute_command("WAIT", count, timeout_ms)
        _, reached = await pipe.execute()
        return bool(reached >= count)
