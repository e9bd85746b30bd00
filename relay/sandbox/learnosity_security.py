"""Learnosity's vocabulary of errors, and its check of the `security` form field.

Codes, HTTP statuses and wording follow the vendor's troubleshooting pages. Security is checked in the order missing,
length, consumer, timestamp, domain, expires, signature; the signature covers the raw `request` text.
"""

import hashlib
import hmac
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from relay.sandbox.answers import Answer

LEARNOSITY_CONSUMER_KEY = "sandboxConsumer7"
LEARNOSITY_CONSUMER_SECRET = "sandbox-only-4c7f1e0a9b3d5826"  # noqa: S105  opens nothing but the sandbox
LEARNOSITY_DOMAIN = "sandbox.learnosity.example"

MAX_FIELD_LENGTH = 255
MAX_SKEW = timedelta(hours=3)
REQUIRED = ("consumer_key", "domain", "timestamp", "signature")
SIGNED = ("consumer_key", "domain", "timestamp", "expires", "user_id")
"""The order is part of the signature."""

ERRORS: Mapping[int, tuple[int, str]] = {
    10000: (500, "An error has occurred"),
    20000: (400, "Missing mandatory parameter(s)"),
    20001: (400, "Invalid parameter length"),
    20002: (400, "Too many parameters passed"),
    20003: (400, "Invalid parameter type"),
    20004: (400, "Invalid parameter value"),
    20009: (400, "JSON failed to validate against schema"),
    20012: (404, "Not Found"),
    20027: (400, "Response too large"),
    41000: (400, "Missing security data"),
    41001: (403, "Invalid parameter length"),
    41002: (403, "Not a valid consumer"),
    41003: (403, "Signatures do not match"),
    41004: (403, "Timestamp out of valid range"),
    41005: (403, "Not a valid domain"),
    41006: (403, "Invalid expires value"),
    41007: (403, "Request has expired"),
    41008: (403, "Consumer is disabled"),
    41009: (403, "API is disabled for this consumer"),
    42000: (429, "Too many requests"),
    42001: (410, "This version is no longer available"),
    43000: (400, "Version is too old for this endpoint"),
}
"""Code → HTTP status and message."""

RATE_LIMITED = 42000


class RefusedError(Exception):
    """The simulated vendor refuses a request with one of its codes."""

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(f"{ERRORS[code][1]}{': ' if detail else ''}{detail}")
        self.code = code


def refusal(code: int, message: str | None = None) -> Answer:
    """Build the vendor's error answer. The one for the rate limit is documented without a `request_uuid`."""
    status, standard = ERRORS[code]
    meta: dict[str, Any] = {"status": False, "code": code, "message": message or standard}
    if code != RATE_LIMITED:
        meta["request_uuid"] = str(uuid.uuid4())
    return Answer(status, msgspec.json.encode({"meta": meta}))


def check_security(form: Mapping[str, str], now: datetime, disabled: int | None = None) -> None:
    """Raise `RefusedError` unless the form is signed by the sandbox's consumer.

    `disabled` is the code with which a known consumer is turned away, if it is.
    """
    packet = _packet(form.get("security"))
    if any(not 0 < len(value) <= MAX_FIELD_LENGTH for value in packet.values()):
        raise RefusedError(41001)
    if not _same(packet["consumer_key"], LEARNOSITY_CONSUMER_KEY):
        raise RefusedError(41002)
    if disabled is not None:
        raise RefusedError(disabled)
    signed_at = _moment(packet["timestamp"])
    if signed_at is None or abs(signed_at - now) > MAX_SKEW:
        raise RefusedError(41004)
    if packet["domain"] != LEARNOSITY_DOMAIN:
        raise RefusedError(41005)
    _check_expires(packet.get("expires"), now)
    if not _same(packet["signature"], _signature(packet, form)):
        raise RefusedError(41003)


def _packet(text: str | None) -> dict[str, str]:
    try:
        packet = msgspec.json.decode(text or "", type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeEncodeError):
        raise RefusedError(41000) from None
    if not packet.keys() >= set(REQUIRED) or not packet.keys() <= {*SIGNED, "signature"}:
        raise RefusedError(41000)
    return packet


def _moment(text: str) -> datetime | None:
    """Read `YYYYMMDD-HHMM`, UTC."""
    try:
        return datetime.strptime(text, "%Y%m%d-%H%M").replace(tzinfo=UTC)
    except ValueError:
        return None


def _check_expires(text: str | None, now: datetime) -> None:
    if text is None:
        return
    expires = _moment(text)
    if expires is None:
        raise RefusedError(41006)
    if expires < now:
        raise RefusedError(41007)


def _signature(packet: Mapping[str, str], form: Mapping[str, str]) -> str:
    parts = [packet[name] for name in SIGNED if name in packet]
    parts += [form[name] for name in ("request", "action") if name in form]
    text = "_".join(parts).encode(errors="replace")
    return "$02$" + hmac.new(LEARNOSITY_CONSUMER_SECRET.encode(), text, hashlib.sha256).hexdigest()


def _same(given: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())
