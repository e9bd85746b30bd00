"""One attempt as it is shown."""

from datetime import UTC, datetime
from typing import Any

from pydantic import ConfigDict

from relay.admin.examples import ATTEMPT
from relay.admin.fields import Described, Moment, example
from relay.core.events import rfc3339
from relay.core.log import Attempt
from relay.core.outcome import Outcome
from relay.core.retry import Verdict


class BareAttempt(Described):
    """An attempt that nothing follows from."""

    attempt_no: int
    """From 1."""
    at: Moment
    """When it was begun."""
    outcome: Outcome
    status_code: int | None
    """The subscriber's HTTP status; null if no answer came."""
    duration_ms: int
    dns_ms: int | None
    """The look-up of the name; null if there was none."""
    connect_ms: int | None
    """TCP and TLS; null if there was none."""
    first_byte_ms: int | None
    """From sending the request to the first byte of the answer; null if none came."""
    detail: str
    """Why it failed, for people."""
    response_body: str
    """The beginning of a refusal's body."""


class AttemptOut(BareAttempt):
    """An attempt of a delivery."""

    model_config = ConfigDict(json_schema_extra=example(ATTEMPT))

    verdict: Verdict
    """What became of the delivery after it."""
    next_attempt_at: Moment | None


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
