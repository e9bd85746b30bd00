"""Lists in pages, and cursors that stay valid while data changes: a cursor is a place, never a count.

Invariant: a list takes the cursors that it has given out, and no other. One of another list, or of the same with other
filters, would pass over items in silence. (The feed's are the exception: they name a place in the one log.)
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta
from pydantic import ConfigDict, Field, PrivateAttr

from relay.admin.fields import Described, Digits
from relay.admin.problems import FieldError, invalid

MAX_LIMIT: Final = 250
DEFAULT_LIMIT: Final = 50
_MARK_BYTES: Final = 6
_OF_THE_PAGE: Final = ("limit", "cursor")
_NOT_OF_THIS_LIST: Final = (
    "is not a cursor of this list: send the next_cursor of its page before, with the same other parameters "
    "(only limit may differ), or leave it out to begin again"
)

CursorText = Annotated[str, Field(min_length=1, max_length=500, json_schema_extra={"format": "cursor"})]

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

    limit: Digits = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    """How many items a page may have."""
    cursor: CursorText | None = None
    """The `next_cursor` of the page before. It belongs to the list that gave it out: with another path, or with other
    parameters than that page had (`limit` aside), it is refused with 422. It stays valid while the data changes."""
    _mark: bytes = PrivateAttr(default=b"")

    def belong(self, path: str, parameters: Mapping[str, str]) -> None:
        """Say which list is asked for."""
        filters = sorted((name, value) for name, value in parameters.items() if name not in _OF_THE_PAGE)
        self._mark = hashlib.sha256(msgspec.json.encode([path, filters])).digest()[:_MARK_BYTES]

    def place(self, kind: Any) -> Any:
        """Where the page begins: a cursor of this kind (a Struct type or a union), None: at the list's beginning."""
        return None if self.cursor is None else decode_cursor(self.cursor, kind, mark=self._mark)

    def following(self, cursor: msgspec.Struct | None) -> str | None:
        """The `next_cursor` of the page; None: it is the last."""
        return None if cursor is None else encode_cursor(cursor, self._mark)


def encode_cursor(cursor: msgspec.Struct, mark: bytes = b"") -> str:
    """Text for a URL; what it says is nobody's business but ours."""
    return base64.urlsafe_b64encode(mark + msgspec.json.encode(cursor)).rstrip(b"=").decode()


def decode_cursor(text: str, kind: Any, name: str = "cursor", mark: bytes = b"", fault: str = _NOT_OF_THIS_LIST) -> Any:
    """What `encode_cursor` wrote, if it is of this kind and has this mark; raises `ProblemError` with that fault."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        if raw.startswith(mark):
            return msgspec.json.decode(raw.removeprefix(mark), type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        pass
    raise invalid(FieldError(f"/{name}", fault))


def json_response(body: Any, status: int = 200, **headers: str) -> web.Response:
    """JSON; `msgspec.Raw` inside it keeps its bytes."""
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json")


def page_response(data: Sequence[Any], next_cursor: str | None) -> web.Response:
    """One page of a list."""
    return json_response({"data": data, "next_cursor": next_cursor})


def page_of(items: Iterable[ItemT], query: PageQuery, key: Callable[[ItemT], str]) -> tuple[list[ItemT], str | None]:
    """A page of a short list that is in memory, in the order of its keys, and the cursor of the next one."""
    place = query.place(NameCursor)
    rest = [item for item in sorted(items, key=key) if place is None or key(item) > place.key]
    page = rest[: query.limit]
    return page, query.following(NameCursor(key(page[-1])) if len(rest) > len(page) else None)
