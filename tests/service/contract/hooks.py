"""What schemathesis cannot know from the description; its process loads it, and nothing else does.

Only cases that are meant to be valid are touched, so nothing here can hide that an invalid one is accepted.
"""

import itertools
import os
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import schemathesis
from hypothesis import strategies as st

CURSORS = dict(one.split("=") for one in os.environ["RELAY_CONTRACT_CURSORS"].split())
"""A cursor of a list without filters, by path."""
FEED = ("/v1/events", "/v1/events/stream")
"""Cursors of these are places in the feed, whatever the filters."""
GIVEN: dict[str, tuple[str, dict[str, str]]] = {cursor: (path, {}) for path, cursor in CURSORS.items()}
"""Cursor → path and filters of the list that gave it out."""
EVENT_ID = re.compile("evt_[a-z2-7]{26}")
PAST = "2026-01-01T00:00:00Z"
SOURCES = ("lod", "exams", "relay")
_numbers = itertools.count(1)

# Which hosts a subscriber may have is a matter of settings (RELAY_EGRESS__…), not of form; nobody listens here.
schemathesis.openapi.format(
    "uri", st.from_regex(r"https?://127\.0\.0\.1:1/[a-z0-9/._~%21-]{0,40}(\?[a-z0-9=&]{0,20})?", fullmatch=True)
)
# What a source may be called is a matter of settings too (`[sources.NAME]`).
schemathesis.openapi.format("source-name", st.sampled_from(SOURCES))


@schemathesis.hook
def after_call(_context: Any, case: Any, response: Any) -> None:
    """Remember which list has given out a cursor: other lists are to refuse it, which has a test of its own."""
    if response.status_code == 200 and "json" in response.headers.get("content-type", [""])[0]:
        cursor = response.json().get("next_cursor")
        if cursor is not None:
            query = dict(parse_qsl(urlsplit(response.request.url).query))
            filters = {name: value for name, value in query.items() if name not in ("limit", "cursor")}
            GIVEN[cursor] = (case.formatted_path, filters)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Keep what the description says in words: a key is new, a cursor goes to its list, parameters fit together."""
    if case.meta is not None and not case.meta.generation.mode.is_positive:
        return
    headers, query, body = case.headers or {}, case.query or {}, case.body
    if isinstance(body, dict) and body.get("since"):
        body["since"] = min(body["since"], PAST)
        body.pop("until", None)  # which may be before
    if "Idempotency-Key" in headers:
        headers["Idempotency-Key"] = f"{next(_numbers)}-{headers['Idempotency-Key']}"[:255]
    if "Last-Event-ID" in headers and not _in_the_feed(headers["Last-Event-ID"]):
        headers["Last-Event-ID"] = CURSORS[FEED[0]]
    if "after" in query and not _in_the_feed(query["after"]):
        query["after"] = CURSORS[FEED[0]]
    if case.operation.path == "/v1/statistics":
        query.pop("since", None)  # a span may have 500 steps
        query.pop("until", None)
    if "after" in query:
        query.pop("cursor", None)
    if "cause" in query:
        query["status"] = "dead"
    if "cursor" in query:
        _bring_home(case.formatted_path, query)


def _bring_home(path: str, query: dict[str, Any]) -> None:
    """Send a cursor with the filters that it was given out with; one of another list gives way to one of this list."""
    cursor = query.pop("cursor")
    if GIVEN.get(cursor, ("", {}))[0] != path:
        cursor = CURSORS.get(path)
    if cursor is None:
        return
    if path not in FEED:
        limit = {"limit": query["limit"]} if "limit" in query else {}
        query.clear()
        query |= limit | GIVEN[cursor][1]
    query["cursor"] = cursor


def _in_the_feed(text: str) -> bool:
    return GIVEN.get(text, ("", {}))[0] in FEED or EVENT_ID.fullmatch(text) is not None
