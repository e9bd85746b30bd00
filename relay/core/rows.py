"""Reading upstream rows without losing a byte of what is passed on."""

from collections.abc import Callable, Container, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from relay.core.errors import InvalidRecordError

RowT = TypeVar("RowT")

_UNSOUND = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for bytes that are not JSON, not UTF-8, or nested without end."""

MAX_AHEAD = timedelta(days=1)
"""An upstream time further ahead than this is a fault, not a difference between clocks."""
MAX_ID_LENGTH = 200
MAX_NUMBER = 2**53
"""Beyond it a JSON number is not exact in most readers; no status, score or count comes near."""
MAX_DEPTH = 32
"""Nesting of a row that every reader of an event can bear."""

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_all = msgspec.json.Decoder().decode


def reader(row_type: type[RowT]) -> Callable[[bytes], RowT]:
    """Decoder of one row; unknown fields are ignored, numbers may come as text (both upstreams do that)."""
    decode = msgspec.json.Decoder(row_type, strict=False).decode

    def read(raw: bytes) -> RowT:
        try:
            return decode(raw)
        except msgspec.ValidationError as error:
            # The library's message names the expected type and the path, never the value.
            raise InvalidRecordError(str(error)) from None
        except _UNSOUND:
            raise InvalidRecordError("not a JSON object") from None

    return read


def number(value: float, field: str) -> float:
    """One spelling per value (the upstream writes 5, 5.0 and 5.00000 for the same score), within `MAX_NUMBER`.

    Text such as "nan" or "inf" has become a number by now, and is refused here.
    """
    if not abs(value) <= MAX_NUMBER:
        raise InvalidRecordError(f"{field} is out of range", field)
    whole = int(value)
    return whole if whole == value else value


def count(value: float | None, field: str) -> int:
    """A number without its fraction; none counts as 0."""
    return int(number(value or 0, field))


def entity_id(value: str | int, field: str) -> str:
    """Check an entity's id: not empty, of bounded length, printable."""
    text = str(value)
    if not text or len(text) > MAX_ID_LENGTH or not text.isprintable():
        raise InvalidRecordError(f"{field} is not a usable id", field)
    return text


def text_or_none(value: str | float | None) -> str | None:
    """An id that may come as a number; the empty text means none."""
    return None if value is None or value == "" else str(value)


def parse_time(value: str | float | None, field: str, now: datetime | None = None) -> datetime | None:
    """Unix seconds (LOD) or ISO 8601 (Learnosity, UTC where it names no zone) as a datetime in UTC.

    With `now`, a time too far ahead of it is refused.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            # Within the try: the first and last hours of the calendar have no UTC equivalent in some zones.
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        else:
            moment = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidRecordError(f"{field} is not a time", field) from None
    if now is not None and moment - now > MAX_AHEAD:
        raise InvalidRecordError(f"{field} lies in the future", field)
    return moment


def split(raw: bytes, private_fields: Container[str]) -> tuple[bytes, bytes]:
    """The row as JSON without its private fields, and those of them that have a value.

    Every other value keeps its bytes: `5.00000` stays `5.00000`. Raises `InvalidRecordError`.
    """
    _require_sound(raw)
    fields = _decode_fields(raw)
    private = {name: value for name, value in fields.items() if name in private_fields}
    told = {name: value for name, value in private.items() if bytes(value) != b"null"}
    body = {name: value for name, value in fields.items() if name not in private}
    return msgspec.json.encode(body), msgspec.json.encode(told) if told else b""


def _require_sound(raw: bytes) -> None:
    """Refuse a row of which a part that `reader` skipped would break who decodes the event.

    Such a part is text that is not UTF-8, a number that no 64 bits hold, or nesting without end.
    """
    try:
        level = [_decode_all(raw)]
    except _UNSOUND:
        raise InvalidRecordError("a field that is passed on is not sound JSON") from None
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise InvalidRecordError("nested too deeply")


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()
