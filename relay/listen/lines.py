"""What `relay listen` prints of one request: a line for people, or a JSON object for programs.

The invariant: one request, one line; of what was refused it holds the reason, and nothing of the body.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from relay.core.events import rfc3339
from relay.terminal import Colour, Paint, printable


class Verdict(StrEnum):
    """What became of a request; the text is what a line says."""

    VERIFIED = "verified ✓"
    UNCHECKED = "not checked"
    REFUSED = "NOT VERIFIED"
    FAILED = "FAILED ON PURPOSE"


_COLOURS = {
    Verdict.VERIFIED: Colour.GREEN,
    Verdict.UNCHECKED: Colour.YELLOW,
    Verdict.REFUSED: Colour.RED,
    Verdict.FAILED: Colour.YELLOW,
}
_CHECKED = {Verdict.VERIFIED: True, Verdict.REFUSED: False}
_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What is worth showing of one request."""

    at: datetime
    verdict: Verdict
    status: int
    """What it is answered with."""
    reason: str = ""
    """Why it is not answered with a success, where that is known."""
    webhook_id: str | None = None
    """As it came; not shown of what was refused."""
    timestamp: str | None = None
    """The attempt's `webhook-timestamp`."""
    seen: int = 1
    """How many times this id has come, this one included."""
    key_no: int | None = None
    """Which of several keys verified it, from 1; None if there is only one."""
    forwarded_ms: int | None = None
    """How long the application took to answer it."""
    payload: Any = None

    def as_line(self, paint: Paint) -> str:
        """One line for people."""
        parts = [
            paint(self.at.strftime("%H:%M:%S"), Colour.DIM),
            paint(self.verdict, _COLOURS[self.verdict]),
            f"by the {ordinal(self.key_no)} key" if self.key_no else "",
            *(() if self.verdict in (Verdict.REFUSED, Verdict.FAILED) else self._content()),
            paint(printable(self.webhook_id, ""), Colour.DIM),
            paint(f"again ({ordinal(self.seen)})", Colour.YELLOW) if self.seen > 1 else "",
            self._answer(paint),
            self.reason,
        ]
        return "  ".join(part for part in parts if part)

    def as_json(self) -> str:
        """One JSON object on a line; the payload, unless it was refused or failed on purpose."""
        fields: dict[str, Any] = {
            "at": rfc3339(self.at),
            "verified": _CHECKED.get(self.verdict),
            "status": self.status,
        }
        if self.reason:
            fields["reason"] = self.reason
        if self.verdict is not Verdict.REFUSED:
            fields |= {"webhook_id": self.webhook_id, "webhook_timestamp": self.timestamp, "seen": self.seen}
            fields["failed_on_purpose"] = self.verdict is Verdict.FAILED
        if self.key_no:
            fields["key"] = self.key_no
        if self.forwarded_ms is not None:
            fields["forwarded_ms"] = self.forwarded_ms
        if self.verdict in (Verdict.VERIFIED, Verdict.UNCHECKED):
            data = _member(self.payload, "data")
            fields |= {"type": _member(self.payload, "type"), "entity": _member(data, "entity")}
            fields["payload"] = self.payload
        return json.dumps(fields)

    def _content(self) -> tuple[str, ...]:
        data = _member(self.payload, "data")
        entity = _member(data, "entity")
        transition = _member(data, "transition")
        return (
            printable(_member(self.payload, "type"), "?"),
            f"{printable(_member(entity, 'kind'))} {printable(_member(entity, 'id'))}",
            f"{printable(_member(transition, 'from'))} → {printable(_member(transition, 'to'))}" if transition else "",
        )

    def _answer(self, paint: Paint) -> str:
        """Say the status unless it is the usual one."""
        if self.verdict is Verdict.REFUSED or (self.status == 204 and self.forwarded_ms is None):  # noqa: PLR2004
            return ""
        took = "" if self.forwarded_ms is None else f" in {self.forwarded_ms} ms"
        return paint(f"answered {self.status}{took}", Colour.GREEN if self.status in _SUCCESS else Colour.RED)


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, … 11th, 12th, 13th, … 21st."""
    teen = 10 < number % 100 < 20  # noqa: PLR2004 - English
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
