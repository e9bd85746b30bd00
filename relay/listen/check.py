"""What a careful subscriber checks before it believes a webhook.

The invariant: a reason for a refusal names headers and rules, never anything that came with the request.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from relay.core.signing import verify

TOLERANCE_S: Final = 300
"""Allowed age or lead of a webhook's timestamp, as the Standard Webhooks specification suggests."""
HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")
_MAX_TIMESTAMP_DIGITS: Final = 12


class RejectedError(Exception):
    """The webhook is not accepted; carries the HTTP status and a short reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def fitting_key(keys: Sequence[str], headers: Mapping[str, str], body: bytes, now_s: float) -> int | None:
    """Which of the keys verifies, from 1; None without any key. Raises `RejectedError`."""
    if not keys:
        return None
    webhook_id, timestamp, signature = (headers.get(name, "") for name in HEADERS)
    if not (webhook_id and timestamp and signature):
        raise RejectedError(400, f"a webhook needs the headers {', '.join(HEADERS)}")
    if not (webhook_id + timestamp + signature).isascii() or not timestamp.isdigit():
        raise RejectedError(400, "webhook-timestamp must be Unix seconds, and all three headers ASCII")
    if len(timestamp) > _MAX_TIMESTAMP_DIGITS or abs(now_s - int(timestamp)) > TOLERANCE_S:
        raise RejectedError(401, "webhook-timestamp is more than five minutes away from this clock")
    for number, key in enumerate(keys, 1):
        if verify([key], webhook_id, int(timestamp), body, signature):
            return number
    raise RejectedError(401, "webhook-signature does not fit: another secret, or the body was changed")


def decode(body: bytes) -> Any:
    """Read the payload; raises `RejectedError`."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise RejectedError(400, "the body is not JSON") from None
