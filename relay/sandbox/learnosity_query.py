"""Learnosity's `request` field for `sessions/statuses`: read, checked with the vendor's codes, and applied.

Rows are ordered by (updated time in µs, session id). A `next` token names the last row of a page in that order, so
rows that share a timestamp may lie on two pages without loss. To a client the token is opaque.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from relay.sandbox.learnosity_security import RefusedError

MAX_LIMIT = 50
MAX_VALUES = 1000
MAX_ID_LENGTH = 255
STATUSES = frozenset({"Incomplete", "Completed", "Discarded", "Pending Scoring"})

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

Span = tuple[int | None, int | None]
"""From and to in µs since 1970."""


@dataclass(frozen=True, slots=True)
class Session:
    """One session; `fields` is replaced, never changed in place."""

    session_id: str
    updated_us: int
    fields: Mapping[str, Any]

    @property
    def place(self) -> tuple[int, str]:
        """Where it stands in the vendor's order."""
        return self.updated_us, self.session_id

    @property
    def token(self) -> str:
        """The `next` token of a page that ends here."""
        seconds, micros = divmod(self.updated_us, 1_000_000)
        return f"{seconds}.{micros:06d}-{self.session_id}"


@dataclass(frozen=True, slots=True)
class Query:
    """A checked request."""

    members: Mapping[str, frozenset[str]]
    """Field → wanted values."""
    spans: Mapping[str, Span]
    """`updated`, `started`, `completed` → the window."""
    descending: bool
    limit: int
    token: str | None
    cursor: tuple[int, str] | None
    metadata: tuple[str, ...]


def micros(moment: datetime) -> int:
    """Exact µs since 1970."""
    return (moment - EPOCH) // MICROSECOND


def parse_query(text: str | None) -> Query:
    """Check a `request` field; raises `RefusedError`. What the vendor does not know it ignores."""
    request = _object(text)
    limit = _typed(request, "limit", int, MAX_LIMIT)
    if limit < 1:
        raise RefusedError(20004, "limit")
    token = _typed(request, "next", str, None)
    members = {name: _values(request, name) for name in ("activity_id", "session_id", "user_id", "status")}
    if not members["status"] <= STATUSES:
        raise RefusedError(20004, "status")
    sort = _typed(request, "sort", str, "desc")
    if sort not in ("asc", "desc"):
        raise RefusedError(20004, "sort")
    return Query(
        {name: values for name, values in members.items() if values},  # an empty list filters nothing
        {name: _span(request, suffix) for name, suffix in _SPANS.items()},
        sort == "desc",
        min(limit, MAX_LIMIT),  # silently: integrators measured it
        token,
        None if token is None else _cursor(token),
        _metadata(_typed(request, "include", dict, {})),
    )


_SPANS = {"updated": "", "started": "_started", "completed": "_completed"}


def _object(text: str | None) -> dict[str, Any]:
    if text is None:
        raise RefusedError(20000, "request")
    try:
        request = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        raise RefusedError(20009, "request") from None
    if not isinstance(request, dict):
        raise RefusedError(20009, "request")
    return request


def _typed(request: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = request.get(name, default)
    if name in request and (not isinstance(value, kind) or isinstance(value, bool)):
        raise RefusedError(20003, name)
    return value


def _values(request: Mapping[str, Any], name: str) -> frozenset[str]:
    values = _typed(request, name, list, [])
    if len(values) > MAX_VALUES:
        raise RefusedError(20002, name)
    if not all(isinstance(value, str) for value in values):
        raise RefusedError(20003, name)
    if not all(0 < len(value) <= MAX_ID_LENGTH for value in values):
        raise RefusedError(20001, name)
    return frozenset(values)


def _metadata(include: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(_values(include, "sessions.session_metadata")))


def _span(request: Mapping[str, Any], suffix: str) -> Span:
    first, last = (_time(request, f"{end}time{suffix}") for end in ("min", "max"))
    return first, last


def _time(request: Mapping[str, Any], name: str) -> int | None:
    """Read Unix seconds or an ISO 8601 text."""
    value = request.get(name)
    if name not in request:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise RefusedError(20003, name)
    if isinstance(value, int):
        return value * 1_000_000
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise RefusedError(20004, name) from None
    return micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _cursor(token: str) -> tuple[int, str]:
    match = re.fullmatch(r"(-?[0-9]{1,12})\.([0-9]{6})-(.+)", token, re.DOTALL)
    if match is None:
        raise RefusedError(20004, "next")
    return int(match[1]) * 1_000_000 + int(match[2]), match[3]


def select_page(sessions: Iterable[Session], query: Query, *, inclusive: bool) -> list[Session]:
    """Pick the sessions of one page. `inclusive`: whether the ends of a time window belong to it."""
    wanted = (
        session
        for session in sessions
        if _is_member(session, query)
        and all(_is_inside(_stamp(session, name), span, inclusive=inclusive) for name, span in query.spans.items())
        and (query.cursor is None or _is_beyond(session.place, query.cursor, descending=query.descending))
    )
    return sorted(wanted, key=lambda session: session.place, reverse=query.descending)[: query.limit]


def _is_member(session: Session, query: Query) -> bool:
    return all(
        (session.session_id if name == "session_id" else session.fields[name]) in values
        for name, values in query.members.items()
    )


def _is_beyond(place: tuple[int, str], cursor: tuple[int, str], *, descending: bool) -> bool:
    return place < cursor if descending else place > cursor


def _stamp(session: Session, name: str) -> int | None:
    if name == "updated":
        return session.updated_us
    text = session.fields[f"dt_{name}"]
    return None if text is None else micros(datetime.fromisoformat(text))


def _is_inside(stamp: int | None, span: Span, *, inclusive: bool) -> bool:
    """A session that never happened to complete lies in no window of completion."""
    first, last = span
    if first is None and last is None:
        return True
    if stamp is None:
        return False
    if stamp in (first, last):
        return inclusive
    return (first is None or first < stamp) and (last is None or stamp < last)
