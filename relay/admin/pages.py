"""Lists in pages, and cursors that stay valid while data changes: a cursor is a place, never a count."""

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta
from pydantic import ConfigDict, Field

from relay.admin.fields import Described
from relay.admin.problems import FieldError, invalid

MAX_LIMIT: Final = 250
DEFAULT_LIMIT: Final = 50
_MAX_CURSOR: Final = 500

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A number in a cursor: whoever writes one by hand cannot make the store stumble."""

CursorT = TypeVar("CursorT", bound=msgspec.Struct)
ItemT = TypeVar("ItemT")


class NameCursor(msgspec.Struct, frozen=True, array_like=True, tag="name"):
    """After which key a sorted list goes on."""

    key: str


class NoQuery(Described):
    """A route without query parameters."""

    model_config = ConfigDict(extra="forbid")


class PageQuery(NoQuery):
    """What every list takes."""

    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    """How many items a page may have."""
    cursor: str | None = Field(default=None, max_length=_MAX_CURSOR, json_schema_extra={"format": "cursor"})
    """The `next_cursor` of the page before; it is a place in the list and stays valid while the data changes."""


def encode_cursor(cursor: msgspec.Struct) -> str:
    """Text for a URL; what it says is nobody's business but ours."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


def decode_cursor(text: str, kind: Any, name: str = "cursor") -> Any:
    """What `encode_cursor` wrote, if it is of this kind (a Struct type or a union of such); raises `ProblemError`."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise invalid(
            FieldError(f"/{name}", "is not a cursor of this list: take it from an answer of the same route")
        ) from None


def json_response(body: Any, status: int = 200, **headers: str) -> web.Response:
    """JSON; `msgspec.Raw` inside it keeps its bytes."""
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json")


def page_response(data: Sequence[Any], following: msgspec.Struct | None) -> web.Response:
    """One page of a list."""
    return json_response({"data": data, "next_cursor": None if following is None else encode_cursor(following)})


def page_of(
    items: Iterable[ItemT], query: PageQuery, *, key: Callable[[ItemT], str], show: Callable[[ItemT], Any]
) -> web.Response:
    """A page of a short list that is in memory, in the order of its keys."""
    after = decode_cursor(query.cursor, NameCursor).key if query.cursor else ""
    rest = [item for item in sorted(items, key=key) if key(item) > after]
    page = rest[: query.limit]
    return page_response([show(item) for item in page], NameCursor(key(page[-1])) if len(rest) > len(page) else None)
