"""Reading Learnosity's replies: the envelope, and what each of its error codes means for a poll.

The invariant: a reply is a success only if it is HTTP 200 *and* its `meta.status` is true; nothing that the
upstream wrote as text is repeated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from relay.core.errors import FetchError
from relay.sources.http import Answer, retry_after_s, status_fault

THROTTLED_S = 5.0
"""The rate's own period; the vendor's 429 has no Retry-After."""
_TOO_LARGE = 20027
_THROTTLED = 42000
_REFUSALS = {
    41000: "the security packet did not arrive: does a proxy change the form?",
    41001: "a credential has the wrong length: check consumer_key and domain",
    41002: "it does not know the consumer: check consumer_key and that base_url is its region",
    41003: "the signature does not fit: check consumer_secret",
    41004: "it does not accept the timestamp: check this machine's clock",
    41005: "the domain is not allowed for this consumer: check domain",
    41006: "it does not accept the expiry: check this machine's clock",
    41007: "the signature has expired: check this machine's clock",
    41008: "the consumer is disabled: ask Learnosity",
    41009: "the consumer is disabled: ask Learnosity",
}
_OTHERS = {
    10000: "a fault of theirs; will be asked again",
    42001: "this version is gone: set a supported one",
    43000: "this version is too old: set a supported one",
}
_REQUEST_CODES = range(20000, 21000)
_MAX_VERSION_CHARS = 40


@dataclass(frozen=True, slots=True)
class Reply:
    """One page of a successful answer."""

    rows: list[bytes]
    stamp_s: float
    """The server's clock in Unix seconds, cut to whole ones."""
    next: str | None
    """The opaque paging token exactly as it was written: as a number it would lose digits."""
    versions: Mapping[str, str]

    @property
    def ends(self) -> bool:
        """Whether no page follows: an empty page still has a token, the same one again."""
        return not self.rows or self.next is None


class _Meta(msgspec.Struct):
    status: Any = None
    code: Any = None
    timestamp: Any = None
    next: msgspec.Raw = msgspec.Raw(b"null")
    versions: Any = None


class _Envelope(msgspec.Struct):
    meta: _Meta
    data: msgspec.Raw = msgspec.Raw(b"null")


_envelopes = msgspec.json.Decoder(_Envelope)
_rows = msgspec.json.Decoder(list[msgspec.Raw])


def read_reply(body: bytearray) -> Reply:
    """Read a body that came with HTTP 200; raises `FetchError` if it is a failure all the same."""
    envelope = _envelopes.decode(body)
    meta = envelope.meta
    if meta.status is not True:
        raise code_fault(meta.code)
    return Reply(
        rows=[bytes(row) for row in _rows.decode(envelope.data)],
        stamp_s=msgspec.convert(meta.timestamp, float, strict=False),
        next=_token(meta.next),
        versions=_versions(meta.versions),
    )


def _token(raw: msgspec.Raw) -> str | None:
    """Keep the token's own digits, whether it came as a string or as a number."""
    text = bytes(raw)
    if text.startswith(b'"') or text == b"null":
        token: str | None = msgspec.json.decode(text, type=str | None)
        return token or None
    return text.decode()


def _versions(found: object) -> dict[str, str]:
    """Keep what can be a version's name; it goes to the log."""
    if not isinstance(found, dict):
        return {}
    return {
        str(key)[:_MAX_VERSION_CHARS]: value[:_MAX_VERSION_CHARS]
        for key, value in list(found.items())[:5]
        if isinstance(value, str)
    }


def http_fault(answer: Answer, now: datetime) -> FetchError:
    """Say what an answer other than 200 means: its own code if it has a known one, else its HTTP status."""
    try:
        code = _envelopes.decode(answer.body).meta.code
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        code = None
    if not _is_known(code):
        return status_fault(answer, now)
    return code_fault(code, retry_after_s(answer.headers.get("Retry-After"), now))


def _is_known(code: object) -> bool:
    return isinstance(code, int) and (
        code == _THROTTLED or code in _REFUSALS or code in _OTHERS or code in _REQUEST_CODES
    )


def code_fault(code: object, after_s: float | None = None) -> FetchError:
    """Say what a Learnosity error code means (vendor's list of Data API codes)."""
    if not isinstance(code, int):
        return FetchError("upstream_error", "Learnosity reports a failure without a code; will be asked again")
    prefix = f"Learnosity code {code}: "
    if code == _THROTTLED:
        wait_s = THROTTLED_S if after_s is None else after_s
        return FetchError("rate_limited", prefix + "asked too often", retry_after_s=wait_s)
    if code == _TOO_LARGE:
        return FetchError("too_large", prefix + "the answer is too large; ask for less")
    if code in _REFUSALS:
        return FetchError("refused", prefix + _REFUSALS[code], retry_after_s=after_s)
    if code in _REQUEST_CODES:
        advice = "it rejects the request itself: check version and session_metadata"
    else:
        advice = _OTHERS.get(code, "a failure; will be asked again")
    return FetchError("upstream_error", prefix + advice, retry_after_s=after_s)
