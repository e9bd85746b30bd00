"""Standard Webhooks 1.0 signatures over `id.timestamp.payload`: `v1` (HMAC-SHA256) and `v1a` (ed25519).

Keys are written as the specification says: `whsec_` a shared secret, `whsk_` a private key, `whpk_` the public key that
verifies it, each followed by base64. A private key is its 32-byte seed (RFC 8032), as in the reference libraries.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from relay.core.errors import RelayError

PREFIX = "whsec_"
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"
MIN_BYTES, MAX_BYTES = 24, 64
SEED_BYTES = PUBLIC_BYTES = 32

Scheme = Literal["v1", "v1a"]
Key = bytes | Ed25519PrivateKey
"""What signs: a shared secret's bytes (`v1`), or a private key (`v1a`)."""
VerifyingKey = bytes | Ed25519PublicKey


class InvalidSecretError(RelayError):
    """The text is not a signing secret; the message never repeats it."""


def format_secret(key: bytes) -> str:
    """Write a key of 24 to 64 random bytes the way that subscribers receive it."""
    return PREFIX + base64.b64encode(key).decode()


def format_private_key(key: Ed25519PrivateKey) -> str:
    """`whsk_…`: only ever to be sealed, never to be shown."""
    return PRIVATE_PREFIX + base64.b64encode(key.private_bytes_raw()).decode()


def format_public_key(key: Ed25519PublicKey) -> str:
    """`whpk_…`: what a receiver verifies with."""
    return PUBLIC_PREFIX + base64.b64encode(key.public_bytes_raw()).decode()


def secret_key(secret: str) -> bytes:
    """Bytes of a `whsec_…` secret; raises `InvalidSecretError`."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidSecretError("a signing secret is whsec_ followed by base64") from None
    if not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise InvalidSecretError(f"a signing secret holds {MIN_BYTES} to {MAX_BYTES} bytes, not {len(key)}")
    return key


def signing_key(secret: str) -> Key:
    """What signs, of a `whsec_…` or a `whsk_…`; raises `InvalidSecretError`."""
    if secret.startswith(PRIVATE_PREFIX):
        return Ed25519PrivateKey.from_private_bytes(_raw(secret.removeprefix(PRIVATE_PREFIX), SEED_BYTES))
    return secret_key(secret)


def verifying_key(text: str) -> VerifyingKey:
    """What verifies, of a `whsec_…` or a `whpk_…`; raises `InvalidSecretError`, for a private key too."""
    if text.startswith(PRIVATE_PREFIX):
        raise InvalidSecretError("a whsk_ key signs and stays with the sender: verify with its whpk_ key")
    if text.startswith(PUBLIC_PREFIX):
        return Ed25519PublicKey.from_public_bytes(_raw(text.removeprefix(PUBLIC_PREFIX), PUBLIC_BYTES))
    return secret_key(text)


def sign_with_key(key: Key, message_id: str, timestamp_s: int, payload: bytes) -> str:
    """One `v1,…` or `v1a,…` signature over exactly the bytes that are sent."""
    signed = _signed(message_id, timestamp_s, payload)
    if isinstance(key, Ed25519PrivateKey):
        return "v1a," + base64.b64encode(key.sign(signed)).decode()
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def sign(secret: str, message_id: str, timestamp_s: int, payload: bytes) -> str:
    """One signature with a secret or a private key in its written form."""
    return sign_with_key(signing_key(secret), message_id, timestamp_s, payload)


def verify(keys: Sequence[str], message_id: str, timestamp_s: int, payload: bytes, signature_header: str) -> bool:
    """Whether any of the space-separated signatures fits any of the keys (`whsec_…`, `whpk_…`); constant time per pair.

    The caller judges the timestamp's age (the specification suggests five minutes).
    """
    if not (message_id + signature_header).isascii():
        return False
    signed, given = _signed(message_id, timestamp_s, payload), signature_header.split(" ")
    return any(_fits(key, signed, one) for key in map(verifying_key, keys) for one in given)


def _fits(key: VerifyingKey, signed: bytes, signature: str) -> bool:
    scheme, _, text = signature.partition(",")
    if isinstance(key, bytes):
        expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
        return scheme == "v1" and hmac.compare_digest(expected, text.encode())
    if scheme != "v1a":
        return False
    try:
        key.verify(base64.b64decode(text, validate=True), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _signed(message_id: str, timestamp_s: int, payload: bytes) -> bytes:
    return f"{message_id}.{timestamp_s}.".encode() + payload


def _raw(text: str, length: int) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != length:
        raise InvalidSecretError(f"a key is its prefix (whpk_, whsk_) followed by base64 of {length} bytes")
    return raw
