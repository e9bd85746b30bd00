"""Reading upstream rows without losing a byte of what is passed on."""

from collections.abc import Callable, Container
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

from relay.core.errors import InvalidRecordError

RowT = TypeVar("RowT")

MAX_AHEAD = timedelta(days=1)
"""An upstream time further ahead than this is a fault, not a difference between clocks."""
MAX_ID_LENGTH = 200

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def reader(row_type: type[RowT]) -> Callable[[bytes], RowT]:
    """Decoder of one row; unknown fields are ignored, numbers may come as text (both upstreams do that)."""
    decode = msgspec.json.Decoder(row_type, strict=False).decode

    def read(raw: bytes) -> RowT:
        try:
            return decode(raw)
        except msgspec.ValidationError as error:
            # The library's message names the expected type and the path, never the value.
            raise InvalidRecordError(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise InvalidRecordError("not a JSON object") from None

    return read


def entity_id(value: str | int, field: str) -> str:
    """Check an entity's id: not empty, of bounded length, printable."""
    text = str(value)
    if not text or len(text) > MAX_ID_LENGTH or not text.isprintable():
        raise InvalidRecordError(f"{field} is not a usable id")
    return text


def text_or_none(value: str | float | None) -> str | None:
    """An id that may come as a number; the empty text means none."""
    return None if value is None or value == "" else str(value)


def parse_time(value: str | float | None, field: str, now: datetime | None = None) -> datetime | None:
    """Unix seconds (LOD) or ISO 8601 (Learnosity) as an aware datetime.

    With `now`, a time too far ahead of it is refused.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        else:
            moment = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidRecordError(f"{field} is not a time") from None
    if now is not None and moment - now > MAX_AHEAD:
        raise InvalidRecordError(f"{field} lies in the future")
    return moment


def split(raw: bytes, private_fields: Container[str]) -> tuple[bytes, bytes]:
    """The row as JSON without its private fields, and those of them that have a value.

    Every other value keeps its bytes: `5.00000` stays `5.00000`.
    """
    fields = _decode_fields(raw)
    private = {name: value for name, value in fields.items() if name in private_fields}
    told = {name: value for name, value in private.items() if bytes(value) != b"null"}
    body = {name: value for name, value in fields.items() if name not in private}
    return msgspec.json.encode(body), msgspec.json.encode(told) if told else b""
