"""What is sent to a receiver, what must come of it, and how to mend what does not.

The invariant: a check of what must be refused follows one that was accepted, and differs from it in one thing, so a
receiver that refuses everything passes nothing. Rules come from the Standard Webhooks specification and from what the
relay does (README, "Receive webhooks").
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from relay.conformance.forge import ID, SIGNATURE, TIMESTAMP, Forge, Webhook, labelled, spelt
from relay.core.catalogue import known_types
from relay.core.envelope import MAX_PAYLOAD_BYTES

AT_ONCE: Final = 16
"""What a subscriber has in flight at most unless it says otherwise (`max_in_flight`)."""
STALE_S: Final = 600
_FEW_AT_ONCE: Final = 4
_AWKWARD: Final = 'Zoë \N{SNOWMAN} \N{GRINNING FACE} \N{LINE SEPARATOR} </script> \\ " \t'

RAW: Final = "verify over the raw bytes of the body, before any framework parses or re-serialises them"
TAMPERED: Final = "compute the signature over `id.timestamp.body` and answer 401 unless it fits"
TOLERANCE: Final = "after the signature, compare webhook-timestamp with your clock: refuse more than five minutes"


class Expectation(StrEnum):
    """What a conforming receiver does."""

    ACCEPT = "accept"
    """Answer 2xx."""
    REFUSE = "refuse"
    """Answer 4xx."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table."""

    name: str
    sends: str
    """What it sends, for people."""
    expected: Expectation
    make: Callable[[Forge], Sequence[Webhook]]
    mend: str
    at_once: int = 1
    """How many of the webhooks are in flight together."""
    remark: str = ""
    """What a pass does not prove."""


def _accept(name: str, sends: str, make: Callable[[Forge], Sequence[Webhook]], mend: str, **more: Any) -> Check:
    return Check(name, sends, Expectation.ACCEPT, make, mend, **more)


def _refuse(name: str, sends: str, make: Callable[[Forge], Sequence[Webhook]], mend: str, **more: Any) -> Check:
    return Check(name, sends, Expectation.REFUSE, make, mend, **more)


def _tampered_body(forge: Forge) -> Sequence[Webhook]:
    webhook = forge.genuine()
    body = webhook.body.replace(b'"to":"Complete"', b'"to":"Compleat"', 1)
    return [Webhook(webhook.headers, body)]


def _tampered_id(forge: Forge) -> Sequence[Webhook]:
    return [forge.genuine().with_header(ID, forge.payload()[0])]


def _tampered_timestamp(forge: Forge) -> Sequence[Webhook]:
    webhook = forge.genuine()
    return [webhook.with_header(TIMESTAMP, str(int(webhook.headers[TIMESTAMP]) - 1))]


def _missing_headers(forge: Forge) -> Sequence[Webhook]:
    return [forge.genuine().without(name) for name in (SIGNATURE, ID, TIMESTAMP)]


def _wrong_key(forge: Forge) -> Sequence[Webhook]:
    webhook = forge.genuine()
    return [webhook.with_header(SIGNATURE, forge.signature_by(forge.stranger, webhook))]


def _confused_key(forge: Forge) -> Sequence[Webhook]:
    """Sign with the public key as if it were a shared secret: a verifier that lets the header choose would accept."""
    webhook = forge.genuine()
    return [webhook.with_header(SIGNATURE, forge.signature_by(forge.public_bytes or b"", webhook))]


def _beside(webhook: Webhook, *others: str) -> Webhook:
    """Put other signatures before the genuine one."""
    return webhook.with_header(SIGNATURE, " ".join([*others, webhook.headers[SIGNATURE]]))


def _rotated(forge: Forge) -> Sequence[Webhook]:
    webhook = forge.genuine()
    return [_beside(webhook, forge.signature_by(forge.stranger, webhook))]


def _unknown_scheme(forge: Forge) -> Sequence[Webhook]:
    webhook = forge.genuine()
    text = webhook.headers[SIGNATURE].partition(",")[2]
    return [_beside(webhook, f"v2,{text}")]


def _header_case(forge: Forge) -> Sequence[Webhook]:
    return [spelt(forge.genuine(), str.title, "Webhook-Id"), spelt(forge.genuine(), str.upper, "WEBHOOK-ID")]


def _raw_bytes(forge: Forge) -> Sequence[Webhook]:
    """Bodies that no serialiser would write again: escapes, other scripts, spaces, numbers in other spellings."""

    def edit(payload: dict[str, Any]) -> None:
        payload["data"]["user_id"] = _AWKWARD

    made = []
    for escaped in (True, False):
        identity, payload = forge.payload(edit=edit)
        payload["data"]["changes"] = {"ExamScore": {"from": None, "to": 6850}}
        text = json.dumps(payload, ensure_ascii=escaped, indent=1, separators=(" ,", " : "))
        text = text.replace("6850", "6.850e+1").replace("/", "\\/")
        made.append(forge.signed(identity, text.encode()))
    return labelled(made, ["escaped", "UTF-8"])


def _again(forge: Forge) -> Sequence[Webhook]:
    return labelled([forge.genuine()] * 2, ["first", "second"])


def _retried(forge: Forge) -> Sequence[Webhook]:
    identity, payload = forge.payload()
    body = msgspec.json.encode(payload)
    made = [forge.signed(identity, body, ahead_s=ahead_s) for ahead_s in (-5, 0)]
    return labelled(made, ["first", "second"])


def _every_type(forge: Forge) -> Sequence[Webhook]:
    names = known_types()
    return labelled([forge.genuine(name) for name in names], names)


def _unknown_type(forge: Forge) -> Sequence[Webhook]:
    def edit(payload: dict[str, Any]) -> None:
        payload["type"] = "lab.not_yet_invented"

    return [forge.genuine(edit=edit)]


def _unknown_fields(forge: Forge) -> Sequence[Webhook]:
    def edit(payload: dict[str, Any]) -> None:
        payload["not_yet_invented"] = {"a": [1]}
        payload["data"]["not_yet_invented"] = None
        payload["data"]["record"]["NotYetInvented"] = True

    return [forge.genuine(edit=edit)]


def _large(forge: Forge) -> Sequence[Webhook]:
    identity, payload = forge.payload()
    payload["data"]["record"]["Padding"] = ""
    payload["data"]["record"]["Padding"] = "x" * (MAX_PAYLOAD_BYTES - len(msgspec.json.encode(payload)))
    return [forge.signed(identity, msgspec.json.encode(payload))]


VALID: Final = _accept(
    "valid",
    "a genuine webhook",
    lambda forge: [forge.genuine()],
    "see that the receiver has this very key, that the URL's path is right, that it verifies `id.timestamp.body` over"
    " the raw body, and that both clocks agree",
)

CHECKS: Final = (
    _refuse("tampered-body", "a body that was changed on the way", _tampered_body, TAMPERED),
    _refuse("tampered-id", "another webhook-id than the signed one", _tampered_id, TAMPERED),
    _refuse("tampered-time", "another webhook-timestamp than the signed one", _tampered_timestamp, TAMPERED),
    _refuse(
        "missing-header",
        "no signature, no id, no timestamp",
        _missing_headers,
        "answer 400 or 401 unless webhook-id, webhook-timestamp and webhook-signature are all there",
    ),
    _refuse("wrong-key", "a signature of another key", _wrong_key, TAMPERED),
    _refuse(
        "stale",
        "signed ten minutes ago",
        lambda forge: [forge.genuine(ahead_s=-STALE_S)],
        f"{TOLERANCE} of age, or whoever recorded a webhook can send it again for ever",
    ),
    _refuse(
        "future",
        "signed ten minutes ahead",
        lambda forge: [forge.genuine(ahead_s=STALE_S)],
        f"{TOLERANCE} of lead, not only of age",
    ),
    _accept(
        "replayed",
        "one webhook twice, byte for byte",
        _again,
        "answer 2xx to a webhook-id that was processed already: delivery is at least once, an error is retried",
    ),
    _accept(
        "retried",
        "one webhook-id with a new timestamp",
        _retried,
        "answer 2xx to a webhook-id that was processed already; each attempt is signed anew",
        remark="whether it was processed once cannot be seen from outside: remember webhook-id",
    ),
    _accept(
        "rotated",
        "two signatures, the second one fits",
        _rotated,
        "split webhook-signature at spaces and accept if any of them fits: two keys sign while a rotation overlaps",
    ),
    _accept(
        "unknown-scheme",
        "a v2 signature beside the valid one",
        _unknown_scheme,
        "skip signatures whose version you do not know",
    ),
    _accept("header-case", "header names in other cases", _header_case, "header names are case-insensitive (RFC 9110)"),
    _accept("raw-bytes", "escapes, other scripts, odd spaces", _raw_bytes, RAW),
    _accept(
        "every-type",
        "an example of every event type",
        _every_type,
        "answer 2xx to types that you have no use for, or name those that you want in the subscription's event_types",
        at_once=_FEW_AT_ONCE,
    ),
    _accept(
        "unknown-type", "an event type of the future", _unknown_type, "answer 2xx to unknown types and ignore them"
    ),
    _accept("unknown-fields", "fields of the future", _unknown_fields, "ignore fields that you do not know"),
    _accept(
        "large",
        f"{MAX_PAYLOAD_BYTES // 1024} KiB, what the relay sends at most",
        _large,
        f"allow bodies of {MAX_PAYLOAD_BYTES} bytes in the framework and in every proxy before it",
    ),
    _accept(
        "concurrent",
        f"{AT_ONCE} at once",
        lambda forge: labelled([forge.genuine() for _ in range(AT_ONCE)], [f"no. {n + 1}" for n in range(AT_ONCE)]),
        "queue the work and answer at once, or lower the subscriber's max_in_flight",
        at_once=AT_ONCE,
    ),
)

CONFUSED_KEY: Final = _refuse(
    "confused-key",
    "a v1 signature made with the public key",
    _confused_key,
    "let your key, not the header, choose the scheme: a public key verifies v1a and nothing else",
)


def checks_for(forge: Forge) -> Sequence[Check]:
    """Every check that follows `VALID`, in the order of the table."""
    return (*CHECKS, CONFUSED_KEY) if forge.public_bytes else CHECKS
