"""What a simulator answers, and the faults that both upstreams share.

An answer is a value: status, bytes, and the manner in which they reach the client. A fault either stands at the
front door (the request never reaches the simulated application) or spoils an answer that was good.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from relay.core.errors import RelayError

HTML = "text/html; charset=utf-8"
MAX_QUEUED = 10_000


class SandboxInputError(RelayError):
    """The sandbox was told something that it cannot do; the message says what it takes."""


class Manner(StrEnum):
    """How an answer travels."""

    WHOLE = "whole"
    STALL = "stall"
    """Not a byte comes, and the connection stays open."""
    STALL_BODY = "stall_body"
    """Headers and half of the body come, then nothing."""
    RESET = "reset"
    RESET_BODY = "reset_body"
    """A TCP reset after half of the body."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes
    content_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Manner = Manner.WHOLE


def page(status: int, title: str) -> Answer:
    """Build the HTML of a proxy that has no idea of the API behind it."""
    return Answer(status, f"<html><head><title>{title}</title></head><body>{title}</body></html>".encode(), HTML)


DOOR_FAULTS = {
    "429": page(429, "Too Many Requests"),
    "429_retry_after": replace(page(429, "Too Many Requests"), headers={"Retry-After": "2"}),
    "500_html": page(500, "Runtime Error"),
    "503_html": page(503, "Service Unavailable"),
    "200_html": page(200, "Scheduled maintenance"),
    "empty_body": Answer(200, b""),
    "stall": Answer(200, b"", manner=Manner.STALL),
    "reset": Answer(200, b"", manner=Manner.RESET),
}
"""Faults that hide the application."""

SPOILING_FAULTS = frozenset({"truncated", "stall_body", "reset_body"})
"""Faults of an answer on its way."""


def spoil(answer: Answer, fault: str | None) -> Answer:
    """Break a good answer as `fault` says; any other fault leaves it as it is.

    `truncated` is half of the JSON in well-formed HTTP; the others end the connection or go silent in the middle.
    """
    if fault == "truncated":
        return replace(answer, body=answer.body[: len(answer.body) // 2])
    return replace(answer, manner=Manner(fault)) if fault in SPOILING_FAULTS else answer


class FaultPlan:
    """One standing fault, and a queue of faults for the next requests, which comes first."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self._standing: str | None = None
        self._queue: deque[str] = deque()

    @property
    def standing(self) -> str | None:
        """The fault of every request; None: no fault."""
        return self._standing

    @standing.setter
    def standing(self, name: str | None) -> None:
        self._standing = self._checked(name)
        self._queue.clear()

    def queue(self, name: str, times: int) -> None:
        """Let `name` happen to the next `times` requests."""
        if not 1 <= times <= MAX_QUEUED - len(self._queue):
            raise SandboxInputError(f"times must lie between 1 and {MAX_QUEUED}, all queued faults together")
        self._checked(name)
        self._queue.extend([name] * times)

    def take(self) -> str | None:
        """The fault for the request that has just come."""
        return self._queue.popleft() if self._queue else self._standing

    def _checked(self, name: str | None) -> str | None:
        if name is not None and name not in self.names:
            raise SandboxInputError(f"no such fault; known: {', '.join(sorted(self.names))}")
        return name
