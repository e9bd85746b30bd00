"""A learner who is to be forgotten: who is meant, which payloads speak of them, and what stays in a snapshot.

Invariant: a snapshot from which a learner was erased says the same as before to the diff. It holds a keyed pseudonym
where the learner's id stood, so a row that shows the same learner still is no change, and one that shows somebody else
is; the id itself does not come back as long as the learner is the same. What is compared is never what is stored.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from relay.core.events import rfc3339
from relay.core.keyring import Keyring
from relay.core.log import Entry
from relay.core.model import View

ERASED = "erased"
"""What a payload says in the place of a learner who was erased before."""
_MARK = "erased:"
_DIGEST_BYTES = 16
_LAB_LEARNER_AT = 2
_KEY_BYTES = 64

_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[int, int, tuple[int, ...], list[Any]]).decode


class Pseudonyms:
    """Keyed names of learners. The first key makes them; every key recognises its own, for as long as it is there."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._keys = {hashlib.sha256(key).hexdigest()[:8]: key[:_KEY_BYTES] for key in keys}

    def of(self, user_id: str) -> str:
        """The pseudonym of a learner; it is safe to log, and without the key it tells nothing."""
        name, key = next(iter(self._keys.items()))
        return f"{_MARK}{name}.{_digest(key, user_id).hex()}"

    def test(self, pseudonym: str) -> Callable[[str], bool] | None:
        """A test for whether an id is of the learner with this pseudonym; None: its key was taken away.

        It takes a microsecond: a replica asks it of everybody that it remembers.
        """
        name, _, digest = pseudonym.removeprefix(_MARK).partition(".")
        if name not in self._keys:
            return None
        key, wanted = self._keys[name], bytes.fromhex(digest)
        return lambda user_id: _digest(key, user_id) == wanted


def pseudonyms(keyring: Keyring) -> Pseudonyms:
    """The pseudonyms of a relay: of all replicas that have the same encryption keys."""
    return Pseudonyms(keyring.derived("pseudonyms"))


def _digest(key: bytes, user_id: str) -> bytes:
    return hashlib.blake2b(user_id.encode("utf-8", "replace"), key=key, digest_size=_DIGEST_BYTES).digest()


class _Change(msgspec.Struct, rename={"from_": "from"}):
    from_: Any = None
    to: Any = None


class _Changes(msgspec.Struct):
    user_id: _Change | None = msgspec.field(name="UserId", default=None)


class _Data(msgspec.Struct):
    user_id: str | None = None
    changes: _Changes | None = None


class _Payload(msgspec.Struct):
    data: _Data


_decode = msgspec.json.Decoder(_Payload).decode


def learners_of(payload: bytes) -> set[str]:
    """Everybody of whom a payload speaks: the learner, and who was it before a lab was handed over."""
    data = _decode(payload).data
    change = data.changes.user_id if data.changes else None
    named = (data.user_id, change.from_, change.to) if change else (data.user_id,)
    return {one for one in named if isinstance(one, str)}


class Search:
    """Finds what speaks of one learner; most of what does not costs a comparison of bytes."""

    def __init__(self, user_id: str) -> None:
        self._user_id = user_id
        self._in_json = _json(user_id)
        self._in_snapshot = user_id.encode("utf-8", "replace")

    def in_payload(self, payload: bytes) -> bool:
        """Whether a payload speaks of the learner."""
        return self._in_json in payload and self._user_id in learners_of(payload)

    def in_snapshot(self, packed: bytes) -> bool:
        """Whether a snapshot names the learner."""
        return self._in_snapshot in packed and learner_in(packed) == self._user_id


def learner_in(packed: bytes) -> str | None:
    """Whom a stored snapshot names, by id or by pseudonym. Those of sessions name nobody: their status is a text."""
    values = _unpack(packed)[3]
    found = values[_LAB_LEARNER_AT] if len(values) > _LAB_LEARNER_AT and isinstance(values[0], int) else None
    return found if isinstance(found, str) else None


def forgotten(packed: bytes, pseudonym: str) -> bytes:
    """A stored snapshot that names a learner, with the pseudonym instead; equal snapshots give equal bytes."""
    sequence, seen_at_s, marks, values = _unpack(packed)
    values[_LAB_LEARNER_AT] = pseudonym
    return _pack((sequence, seen_at_s, marks, values))


def unveil(stored: View, seen: View, at: int, names: Pseudonyms) -> View:
    """What a stored view says to the diff with what is seen: the same learner, if the pseudonym is theirs.

    A pseudonym whose key was taken away passes for whoever is seen: nothing that was erased may be told as news.
    """
    pseudonym = stored[at]
    if not (isinstance(pseudonym, str) and pseudonym.startswith(_MARK)):
        return stored
    is_learner = names.test(pseudonym)
    same = seen[at] is not None and (is_learner is None or is_learner(seen[at]))
    return _replaced(stored, at, seen[at] if same else ERASED)


def veil(seen: View, stored: View, unveiled: View, at: int) -> View:
    """What is to be stored of what is seen: the pseudonym, as long as the learner is the same."""
    veiled = unveiled[at] != stored[at] and unveiled[at] == seen[at]
    return _replaced(seen, at, stored[at]) if veiled else seen


def _replaced(view: View, at: int, value: Any) -> View:
    return (*view[:at], value, *view[at + 1 :])


def shown(entry: Entry) -> bytes:
    """The payload, or what stands in its place in a feed: that there was an event, which nobody can read any more."""
    if not entry.erased:
        return entry.payload
    data = {"event_id": entry.event_id, "source": entry.source, "entity": {"id": entry.entity_id}, "erased": True}
    told_at = datetime.fromtimestamp(entry.place.ms / 1000, UTC)
    return _json({"type": entry.event_type, "timestamp": rfc3339(told_at), "data": data})
