"""What schemathesis cannot know from the description; its process loads it, and nothing else does.

Only cases that are meant to be valid are touched, so nothing here can hide that an invalid one is accepted.
"""

import base64
import binascii
import itertools
import os
from typing import Any

import schemathesis
from hypothesis import strategies as st

CURSORS = dict(one.split("=") for one in os.environ["RELAY_CONTRACT_CURSORS"].split())
"""A cursor of a list, by path."""
PAST = "2026-01-01T00:00:00Z"
_numbers = itertools.count(1)

# Which hosts a subscriber may have is a matter of settings (RELAY_EGRESS__…), not of form; nobody listens here.
schemathesis.openapi.format(
    "uri", st.from_regex(r"https?://127\.0\.0\.1:1/[a-z0-9/._~%21-]{0,40}(\?[a-z0-9=&]{0,20})?", fullmatch=True)
)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Keep what the description says in words: a key is new, a cursor was given, two parameters go together or not."""
    if case.meta is not None and not case.meta.generation.mode.is_positive:
        return
    headers, query, body = case.headers or {}, case.query or {}, case.body
    if isinstance(body, dict) and body.get("since"):
        body["since"] = min(body["since"], PAST)
        body.pop("until", None)  # which may be before
    if "Idempotency-Key" in headers:
        headers["Idempotency-Key"] = f"{next(_numbers)}-{headers['Idempotency-Key']}"[:255]
    for name in ("cursor", "after"):
        if name in query and not _given(query[name]):
            query |= {name: CURSORS[case.operation.path]} if case.operation.path in CURSORS else {}
        if name in query and not _given(query[name]):
            del query[name]
    if case.operation.path == "/v1/statistics":
        query.pop("since", None)  # a span may have 500 steps
        query.pop("until", None)
    if "after" in query:
        query.pop("cursor", None)
    if "cause" in query:
        query["status"] = "dead"
        query.pop("cursor", None)  # it is of a list of another kind


def _given(text: Any) -> bool:
    """Whether the relay has made it: a link of an earlier answer leads to it."""
    try:
        return base64.urlsafe_b64decode(f"{text}==").startswith(b"[")
    except (binascii.Error, ValueError):
        return False
