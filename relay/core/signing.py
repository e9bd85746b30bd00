"""Standard Webhooks 1.0 signatures (scheme `v1`): base64 of HMAC-SHA256 over `id.timestamp.payload`.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from relay.core.errors import RelayError

PREFIX = "whsec_"
MIN_BYTES, MAX_BYTES = 24, 64


class InvalidSecretError(RelayError):
    """The text is not a signing secret; the message never repeats it."""


def format_secret(key: bytes) -> str:
    """Write a key of 24 to 64 random bytes the way that subscribers receive it."""
    return PREFIX + base64.b64encode(key).decode()


def secret_key(secret: str) -> bytes:
    """Bytes of a `whsec_…` secret; raises `InvalidSecretError`."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidSecretError("a signing secret is whsec_ followed by base64") from None
    if not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise InvalidSecretError(f"a signing secret holds {MIN_BYTES} to {MAX_BYTES} bytes, not {len(key)}")
    return key


def sign_with_key(key: bytes, message_id: str, timestamp_s: int, payload: bytes) -> str:
    """One `v1,…` signature over exactly the bytes that are sent."""
    signed = f"{message_id}.{timestamp_s}.".encode() + payload
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def sign(secret: str, message_id: str, timestamp_s: int, payload: bytes) -> str:
    """One `v1,…` signature with a secret in its written form."""
    return sign_with_key(secret_key(secret), message_id, timestamp_s, payload)


def verify(secrets: Sequence[str], message_id: str, timestamp_s: int, payload: bytes, signature_header: str) -> bool:
    """Whether any of the space-separated signatures fits any of the secrets; constant time per pair.

    The caller judges the timestamp's age (the specification suggests five minutes).
    """
    if not (message_id + signature_header).isascii():
        return False
    expected = [sign(secret, message_id, timestamp_s, payload).encode() for secret in secrets]
    given = [part.encode() for part in signature_header.split(" ")]
    return any(hmac.compare_digest(one, other) for one in expected for other in given)
