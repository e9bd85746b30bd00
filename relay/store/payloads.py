"""Payloads: beside the log, where one can be erased.

A stream gives nothing back: an entry cannot be changed, and the bytes of one that is deleted stay in its node, in a
rewritten append-only file too. So the log holds what names an event, and one hash holds what it says, by its place: a
field that is deleted is gone from memory at once, and from disk with the next rewrite of the file.

Invariant: both are written in one step, and removed in one by retention. An entry of the log without its payload has
been erased. (Events of the relay itself, which name nobody, carry their payload in the log, as all did formerly.)
"""

from collections.abc import Mapping, Sequence

from relay.core.log import Entry, Place
from relay.store.keys import Keys
from relay.store.scripts import Client

Fields = Mapping[bytes, bytes]


def pack_content(payload: bytes, private: bytes) -> bytes:
    """What is kept of an event: the length of the private fields, these, the payload."""
    return b"%d:%b%b" % (len(private), private, payload)


def entry_of(place: bytes, fields: Fields, content: bytes | None) -> Entry:
    """One event; without content, and without a payload of its own in the log, it was erased."""
    payload, private = fields.get(b"p", b""), fields.get(b"x", b"")
    if content is not None:
        length, _, rest = content.partition(b":")
        private, payload = rest[: int(length)], rest[int(length) :]
    return Entry(
        Place.parse(place),
        fields[b"i"].decode(),
        fields[b"t"].decode(),
        fields[b"s"].decode(),
        fields[b"e"].decode(),
        payload,
        private,
    )


async def with_contents(client: Client, keys: Keys, found: Sequence[tuple[bytes, Fields]]) -> list[Entry]:
    """What was read from the log, as events."""
    apart = [place for place, fields in found if b"p" not in fields]
    contents = await client.hmget(keys.payloads, apart) if apart else []
    by_place = dict(zip(apart, contents, strict=True))
    return [entry_of(place, fields, by_place.get(place)) for place, fields in found]
