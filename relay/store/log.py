"""The event log: reading, finding, trimming."""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.core.log import START, Entry, Place
from relay.store.keys import TAG_LENGTH, Keys
from relay.store.payloads import entry_of, with_contents
from relay.store.scripts import Client, Scripts, register

TRIM_BATCH = 500


@dataclass(frozen=True, slots=True)
class News:
    """What a blocking read returned."""

    entries: Sequence[Entry]
    control: Sequence[tuple[Place, str, str]]
    """Place, kind and value of each control message."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Which places the log has given out, and what of them is left."""

    end: Place
    """The latest place, whether an event still stands there or not; the start: there has been none."""
    trimmed: Place
    """Retention has removed everything up to here; the start: nothing yet."""
    durable: bool
    """Whether all of it is on as many replicas as were asked for."""


class LogStore:
    """One log, shared by all subscribers."""

    def __init__(self, client: Client, keys: Keys, scripts: Scripts) -> None:
        self._client = client
        self._keys = keys
        self._gate = register(client, "gate", flags=scripts.flags)
        self._trim = register(client, "trim", flags=scripts.flags)

    async def end(self) -> Place:
        """Place of the last event, or the start of an empty log."""
        return await self._last(self._keys.log)

    async def control_end(self) -> Place:
        """Place of the last control message."""
        return await self._last(self._keys.ctl)

    async def _last(self, key: str) -> Place:
        last = await self._client.xrevrange(key, count=1)
        return Place.parse(last[0][0]) if last else START

    async def extent(self, replicas: int = 0, timeout_ms: int = 0) -> Extent:
        """How far the log goes, and whether that much has reached `replicas`; asked of one server in one round trip."""
        pipe = self._client.pipeline(transaction=False)
        pipe.exists(self._keys.log)
        pipe.xinfo_stream(self._keys.log)
        pipe.hget(self._keys.meta, "trimmed")
        if replicas:
            await self._gate(keys=[self._keys.gate], client=pipe)
            pipe.execute_command("WAIT", replicas, timeout_ms)
        exists, info, trimmed, *gate = await pipe.execute(raise_on_error=False)
        for reply in (exists, trimmed, *gate, *([info] if exists else [])):
            if isinstance(reply, Exception):
                raise reply
        end = START if isinstance(info, Exception) else Place.parse(info["last-generated-id"])
        return Extent(end, Place.parse(trimmed or b"0-0"), not gate or gate[1] >= replicas)

    async def wait(self, log: Place | None, control: Place | None, *, block_ms: int, count: int = 500) -> News:
        """Block until something stands after these places, or `block_ms` have passed.

        A stream without a place is not read.
        """
        places = {key: str(at) for key, at in ((self._keys.log, log), (self._keys.ctl, control)) if at is not None}
        reply = await self._client.xread(places, count=count, block=block_ms)
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

    async def kept_after(self, place: Place, until: Place, count: int) -> tuple[list[Entry], Place]:
        """As `after`, and up to where retention had removed events by then: behind `place`, and some are missing."""
        found = await self._client.xrange(self._keys.log, f"({place}", str(until), count)
        entries = await with_contents(self._client, self._keys, found)
        # After the reading, so that it tells of every removal before that, and of one between log and payloads.
        trimmed = await self._client.hget(self._keys.meta, "trimmed")
        return entries, Place.parse(trimmed or b"0-0")

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

    async def entities(self, places: Sequence[Place]) -> list[tuple[str, str] | None]:
        """Whose the events at these places are (source, entity), None where one has been trimmed."""
        pipe = self._client.pipeline(transaction=False)
        for place in places:
            pipe.xrange(self._keys.log, str(place), str(place))
        fields = [found[0][1] if found else None for found in await pipe.execute()]
        return [one and (one[b"s"].decode(), one[b"e"].decode()) for one in fields]

    async def find(self, event_id: str) -> Entry | None:
        """The event with this id."""
        place = await self._client.hget(self._keys.index(event_id), event_id)
        return None if place is None else (await self.at([Place.parse(place)]))[0]

    async def of_entity(
        self, source: str, entity_id: str, after: Place, until: Place, count: int, *, newest_first: bool = False
    ) -> list[Entry]:
        """Up to `count` events of one entity after a place, up to and including `until`, in order or in reverse."""
        bucket, tag = self._keys.timeline(source, entity_id)
        listed = await self._client.lrange(bucket, 0, -1)
        places = [Place.parse(one[TAG_LENGTH:]) for one in listed if one.startswith(tag.encode())]
        places = sorted((place for place in places if after < place <= until), reverse=newest_first)
        found: list[Entry] = []
        for at in range(0, len(places), count):
            entries = await self.at(places[at : at + count])  # some may be of another entity with the same tag
            found += [one for one in entries if one and (one.source, one.entity_id) == (source, entity_id)]
            if len(found) >= count:
                break
        return found[:count]

    async def trim(self, before_ms: int) -> int:
        """Remove events older than this, at most `TRIM_BATCH`; returns how many."""
        if before_ms <= 0:  # retention reaches back beyond 1970, where there is no id
            return 0
        old = await self._client.xrange(self._keys.log, "-", f"({before_ms}-0", TRIM_BATCH)
        if not old:
            return 0
        keys = [self._keys.log, self._keys.meta, self._keys.payloads]
        events: list[int | str | bytes] = []
        for place, fields in old:
            event_id, entity = fields[b"i"].decode(), (fields[b"s"].decode(), fields[b"e"].decode())
            keys += (self._keys.index(event_id), self._keys.timeline(*entity)[0])
            events += (place, len(keys) - 1, event_id, len(keys))
        last = Place.parse(old[-1][0])
        await self._trim(keys=keys, args=[str(last), f"{last.ms}-{last.no + 1}", TAG_LENGTH, *events])
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

    async def stands(self, place: Place, replicas: int, timeout_ms: int) -> bool | None:
        """Whether the event at `place` is on so many replicas of this very server; None: it holds no such event.

        What was read just before may have come from a server that has lost its rank since.
        """
        pipe = self._client.pipeline(transaction=False)
        pipe.xrange(self._keys.log, str(place), str(place))
        await self._gate(keys=[self._keys.gate], client=pipe)
        pipe.execute_command("WAIT", replicas, timeout_ms)
        found, _, reached = await pipe.execute()
        return bool(reached >= replicas) if found else None
