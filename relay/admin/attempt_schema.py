"""One attempt as it is shown."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from relay.core.events import rfc3339
from relay.core.log import Attempt


class BareAttempt(BaseModel):
    """An attempt that nothing follows from."""

    attempt_no: int
    at: str
    outcome: str
    status_code: int | None
    duration_ms: int
    dns_ms: int | None
    """The look-up of the name, the connection with TLS, the answer's first byte; null where there was none."""
    connect_ms: int | None
    first_byte_ms: int | None
    detail: str
    response_body: str


class AttemptOut(BareAttempt):
    """An attempt of a delivery."""

    verdict: str
    next_attempt_at: str | None


def moment(ms: int | None) -> str | None:
    """Unix milliseconds as RFC 3339."""
    return None if ms is None else rfc3339(datetime.fromtimestamp(ms / 1000, UTC))


def shown_test(attempt: Attempt) -> dict[str, Any]:
    """What is told of a test's attempt."""
    return {
        "attempt_no": attempt.attempt_no,
        "at": moment(attempt.started_ms),
        "outcome": attempt.outcome,
        "status_code": attempt.status,
        "duration_ms": attempt.duration_ms,
        "dns_ms": attempt.dns_ms,
        "connect_ms": attempt.connect_ms,
        "first_byte_ms": attempt.first_byte_ms,
        "detail": attempt.detail,
        "response_body": attempt.body.decode("utf-8", "replace"),
    }


def shown_attempt(attempt: Attempt) -> dict[str, Any]:
    """What is told of a delivery's attempt."""
    return {**shown_test(attempt), "verdict": attempt.verdict, "next_attempt_at": moment(attempt.next_ms)}
