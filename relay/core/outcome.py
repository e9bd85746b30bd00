"""What one attempt came to. An expected failure is a value here, never an exception."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Classes of outcome; classified by exception type and status code, never by an error's text."""

    DELIVERED = "delivered"
    """A 2xx status line with complete headers."""
    STATUS = "status"
    """Any other final status outside 3xx."""
    REDIRECT = "redirect"
    """A 3xx, which is never followed (the signature covers this subscriber, not another address)."""
    DNS = "dns"
    CONNECT = "connect"
    """Refused, unreachable, or reset before an answer was complete."""
    TLS = "tls"
    TIMEOUT = "timeout"
    """The subscriber's whole time for one attempt ran out."""
    BLOCKED = "blocked"
    """The egress guard refused the URL or an address behind it; nothing was sent."""
    BODY = "body"
    """An answer that is not HTTP, or whose headers exceed their bounds."""
    PROXY = "proxy"
    """The relay's own egress proxy is down or refused: our failure, which says nothing about the subscriber."""
    LOCAL = "local"
    """This machine has no socket or memory left: our failure, which says nothing about the subscriber."""
    TOO_LARGE = "too_large"
    """The body exceeds the relay's own limit: nothing was sent, and it says nothing about the subscriber."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of one POST."""

    outcome: Outcome
    status: int | None = None
    """The subscriber's HTTP status, where an answer came; never a proxy's."""
    retry_after_s: float | None = None
    """A `Retry-After` of 429 or 503 in seconds from now, unbounded as it came (never negative or NaN)."""
    duration_ms: int = 0
    detail: str = ""
    """A short reason for people; it never holds the URL's path or query, a secret, or the payload."""
    body: bytes = b""
    """Up to 1 KiB of the answer's body, undecoded."""
    dns_ms: int | None = None
    """The look-up of the name; None if there was none (a literal, a kept connection, an egress proxy's affair)."""
    connect_ms: int | None = None
    """TCP and TLS, an egress proxy's part included; None on a kept connection, or if it did not come to that."""
    first_byte_ms: int | None = None
    """From sending the request to the first byte of an answer; None if none came."""
