"""Rows that were kept out: which field was wrong and what kind of thing stood there, never what it was.

Invariant: of what the row says nothing is kept but the id of the lab instance or session, where that can be read.
"""

import re
from datetime import datetime
from typing import Any

import msgspec

from relay.core.errors import InvalidRecordError
from relay.core.rows import entity_id

MAX_SAMPLES = 10
MAX_PER_REASON = 3

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_id = msgspec.json.Decoder(str | int).decode
_FIELD = re.compile(r"at `\$\.(\w+)|missing required field `(\w+)`")
"""Where msgspec's messages name a field; both are names of this code, not of the row."""
_KINDS = {
    b'"': "text",
    b"[": "array",
    b"{": "object",
    b"t": "boolean",
    b"f": "boolean",
    b"n": "null",
}


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One row that was kept out."""

    reason: str
    field: str | None
    """The upstream's name of the field; None: the row as a whole."""
    shape: str
    """What stood there: its JSON type and its length in bytes, or `missing`."""
    entity_id: str | None
    at: datetime


def sample_of(raw: bytes, error: InvalidRecordError, id_field: str, at: datetime) -> Sample:
    """What may be said of a row that was kept out."""
    found = _FIELD.search(str(error))
    field = error.field or (found and (found[1] or found[2])) or None
    try:
        fields: dict[str, Any] = _decode_fields(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Sample(reason=str(error), field=field, shape=_shape(raw), entity_id=None, at=at)
    value = raw if field is None else fields.get(field)
    return Sample(
        reason=str(error),
        field=field,
        shape="missing" if value is None else _shape(bytes(value)),
        entity_id=_id_of(fields.get(id_field)),
        at=at,
    )


def _shape(raw: bytes) -> str:
    text = raw.strip()
    kind = _KINDS.get(text[:1], "number" if text[:1].isdigit() or text[:1] == b"-" else "not JSON")
    return kind if kind in ("boolean", "null") else f"{kind} of {len(text)} bytes"


def _id_of(raw: Any) -> str | None:
    if raw is None:
        return None
    try:
        return entity_id(_decode_id(raw), "")
    except (msgspec.MsgspecError, UnicodeDecodeError, InvalidRecordError):
        return None


class Samples:
    """A few of the rows that were kept out, of as many reasons as possible."""

    def __init__(self) -> None:
        self.kept: list[Sample] = []

    def wants(self, reason: str) -> bool:
        """Whether one more with this reason is kept; making a sample costs more than counting a row."""
        return len(self.kept) < MAX_SAMPLES and sum(one.reason == reason for one in self.kept) < MAX_PER_REASON

    def add(self, other: "Samples") -> None:
        """Keep those of another page too."""
        self.kept += [one for one in other.kept if self.wants(one.reason)]
