"""Makes the webhooks of the examination: genuine ones, and ones that something is wrong with.

The invariant: each forgery differs from a genuine webhook in one thing only, so an answer says what it is about; and no
id is used twice unless a check asks for it, so a receiver that drops duplicates is not examined with them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.core.catalogue import catalogue
from relay.core.envelope import STANDARD_TYPE
from relay.core.events import named_id
from relay.core.signing import Key, Scheme, sign_with_key

SAMPLE_TYPE: Final = "lab.completed"
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"

_encode = msgspec.json.Encoder().encode

Edit = Callable[[dict[str, Any]], None]
"""Changes a payload in place before it is encoded."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One POST."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    label: str = ""
    """What tells it from the others of one check."""

    def with_header(self, name: str, text: str) -> "Webhook":
        """Say something else in a header, with the signature of before."""
        return replace(self, headers={**self.headers, name: text})

    def without(self, name: str) -> "Webhook":
        """Leave a header out."""
        return replace(self, headers={key: text for key, text in self.headers.items() if key != name}, label=name)


@dataclass(frozen=True, slots=True)
class Forge:
    """Signs with `key` as the relay would, and with `stranger`, a key of its kind that the receiver has never seen.

    `run` makes the ids of one examination its own; `now_s` is wall-clock Unix time; `headers` are the subscriber's.
    """

    key: Key = field(repr=False)
    stranger: Key = field(repr=False)
    run: str
    now_s: Callable[[], float]
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    _used: list[None] = field(default_factory=list, repr=False)

    def payload(self, event_type: str = SAMPLE_TYPE, edit: Edit | None = None) -> tuple[str, dict[str, Any]]:
        """An id of its own, and the catalogue's example of a type under that id."""
        self._used.append(None)
        identity = named_id("conformance", self.run, len(self._used))
        payload: dict[str, Any] = msgspec.json.decode(catalogue()[event_type].example)
        payload["data"]["event_id"] = identity
        if edit:
            edit(payload)
        return identity, payload

    def genuine(self, event_type: str = SAMPLE_TYPE, edit: Edit | None = None, *, ahead_s: int = 0) -> Webhook:
        """What the relay would send; `ahead_s` moves its time into the future (negative: the past)."""
        identity, payload = self.payload(event_type, edit)
        return self.signed(identity, _encode(payload), ahead_s=ahead_s)

    def signed(self, identity: str, body: bytes, *, ahead_s: int = 0, label: str = "") -> Webhook:
        """Sign exactly these bytes."""
        timestamp_s = int(self.now_s()) + ahead_s
        own = {
            "content-type": STANDARD_TYPE,
            ID: identity,
            TIMESTAMP: str(timestamp_s),
            SIGNATURE: sign_with_key(self.key, identity, timestamp_s, body),
        }
        headers = {name: text for name, text in self.headers.items() if name.lower() not in own} | own
        return Webhook(headers, body, label)

    def signature_by(self, key: Key, webhook: Webhook) -> str:
        """Sign a webhook's id, timestamp and body with another key."""
        return sign_with_key(key, webhook.headers[ID], int(webhook.headers[TIMESTAMP]), webhook.body)

    @property
    def scheme(self) -> Scheme:
        """How genuine webhooks are signed."""
        return "v1a" if isinstance(self.key, Ed25519PrivateKey) else "v1"

    @property
    def public_bytes(self) -> bytes | None:
        """The public key, if a private one signs (`v1a`)."""
        return self.key.public_key().public_bytes_raw() if isinstance(self.key, Ed25519PrivateKey) else None


def spelt(webhook: Webhook, spell: Callable[[str], str], label: str) -> Webhook:
    """Write the header names in another case."""
    return replace(webhook, headers={spell(name): text for name, text in webhook.headers.items()}, label=label)


def labelled(webhooks: Sequence[Webhook], labels: Sequence[str]) -> Sequence[Webhook]:
    """Name the webhooks of one check."""
    return [replace(webhook, label=label) for webhook, label in zip(webhooks, labels, strict=True)]
