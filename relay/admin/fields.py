"""What the models of the API share: descriptions from their docstrings, and times.

Invariant: what a model accepts is what its JSON Schema says, because callers generate their clients from that.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

_TIME: Final = {"type": "string", "format": "date-time"}


class Described(BaseModel):
    """A model whose fields are described by the docstrings below them."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_serialization_defaults_required=True)


def _text_only(value: object) -> object:
    """RFC 3339 text; pydantic itself would take a number for Unix seconds."""
    if not isinstance(value, str):
        raise ValueError("must be a time as RFC 3339 writes it, with an offset")  # noqa: TRY004 - pydantic's protocol
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a time as RFC 3339 writes it, with an offset") from None


def whole(value: object) -> object:
    """16.0 as 16: JSON Schema takes it for an integer, and some encoders know floats only."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(whole)]
"""An integer, as JSON Schema has it."""
Moment = Annotated[str, WithJsonSchema({**_TIME, "examples": ["2026-11-21T17:00:00.123Z"]})]
"""A time in an answer: RFC 3339, UTC, `Z`."""
Instant = Annotated[AwareDatetime, BeforeValidator(_text_only), WithJsonSchema(_TIME)]
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
