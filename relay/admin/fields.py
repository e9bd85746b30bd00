"""What the models of the API share: descriptions from their docstrings, and times.

Invariant: what a model accepts is what its JSON Schema says, because callers generate their clients from that.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

_TIME: Final = {"type": "string", "format": "date-time"}
_RFC3339: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt]((?:[01]\d|2[0-3]):[0-5]\d:)([0-5]\d|60)(\.\d+)?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_NO_TIME: Final = "must be a time as RFC 3339 writes it, with an offset: 2026-11-21T17:00:00Z"
_DIGITS: Final = re.compile(r"[0-9]{1,15}")


class Described(BaseModel):
    """A model whose fields are described by the docstrings below them; its errors never hold what it was given."""

    model_config = ConfigDict(
        use_attribute_docstrings=True, json_schema_serialization_defaults_required=True, hide_input_in_errors=True
    )


def instant(value: object) -> datetime:
    """A `date-time` of RFC 3339 (5.6), and nothing else that ISO 8601 allows; raises `ValueError`.

    Digits beyond microseconds are dropped. A leap second, the sixty-first of a month's last minute, is the second
    after it; the year 0000 is refused, because Python has none.
    """
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(_NO_TIME)
    day, minute, second, fraction, offset = match.groups(default="")
    try:
        if second != "60":
            return datetime.fromisoformat(f"{day}T{minute}{second}{fraction[:7]}{offset.upper()}")
        following = datetime.fromisoformat(f"{day}T{minute}59{offset.upper()}").astimezone(UTC) + timedelta(seconds=1)
    except (ValueError, OverflowError):
        raise ValueError(_NO_TIME) from None
    if (following.day, following.hour, following.minute) != (1, 0, 0):
        raise ValueError(_NO_TIME)
    return following


def _digits(value: object) -> int:
    """A number in a query string; a body's are not read by this."""
    if not isinstance(value, str) or not _DIGITS.fullmatch(value):
        raise ValueError("must be a whole number, in digits")
    return int(value)


def whole(value: object) -> object:
    """16.0 as 16: JSON Schema takes it for an integer, and some encoders know floats only."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(whole)]
"""An integer, as JSON Schema has it."""
Digits = Annotated[int, BeforeValidator(_digits)]
"""An integer of a query string."""
Moment = Annotated[str, WithJsonSchema({**_TIME, "examples": ["2026-11-21T17:00:00.123Z"]})]
"""A time in an answer: RFC 3339, UTC, `Z`."""
Instant = Annotated[AwareDatetime, BeforeValidator(instant), WithJsonSchema(_TIME)]
"""A time in a request: RFC 3339 with an offset."""


def _id(prefix: str, noun: str) -> Any:
    """An id in a filter: one that is not known finds nothing, what cannot be one is a mistake."""
    pattern = rf"{prefix}[0-9A-Za-z_]{{1,100}}"

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"is not the id of {noun}: those begin with {prefix}")
        return value

    return Annotated[str, AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})]


SubscriberId = _id("sub_", "a subscriber")
EventId = _id("evt_", "an event")


def example(value: dict[str, Any]) -> dict[str, Any]:
    """For `json_schema_extra`: what such an object looks like."""
    return {"examples": [value]}
