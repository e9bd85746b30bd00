"""Secrets at rest: AES-256-GCM, the owner's id as associated data, several keys for rotation."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay.core.errors import RelayError

KEY_BYTES = 32
NONCE_BYTES = 12


class UnreadableSecretError(RelayError):
    """No key of the ring opens it; the message never holds the secret."""


class Keyring:
    """The first key seals, all of them open. A sealed secret opens only for the id that it was sealed for."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = [AESGCM(key) for key in keys]
        self._keys = tuple(keys)

    def derived(self, purpose: str) -> list[bytes]:
        """For each key of the ring one for another purpose, which gives nothing away of it."""
        return [hmac.digest(key, purpose.encode(), hashlib.sha256) for key in self._keys]

    def seal(self, plain: str, owner_id: str, nonce: bytes) -> str:
        """Encrypt; `nonce` is `NONCE_BYTES` random bytes, never used twice."""
        sealed = self._ciphers[0].encrypt(nonce, plain.encode(), owner_id.encode())
        return base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, owner_id: str) -> str:
        """Decrypt; raises `UnreadableSecretError`."""
        return self._open(sealed, owner_id)[1]

    def reseal(self, sealed: str, owner_id: str, nonce: bytes) -> str:
        """Seal with the first key what another one has sealed; what it sealed itself stays as it is.

        Raises `UnreadableSecretError`.
        """
        position, plain = self._open(sealed, owner_id)
        return sealed if position == 0 else self.seal(plain, owner_id, nonce)

    def _open(self, sealed: str, owner_id: str) -> tuple[int, str]:
        """Which key of the ring opens it, and what it holds."""
        try:
            data = base64.b64decode(sealed, validate=True)
        except (binascii.Error, ValueError):
            raise UnreadableSecretError(f"the secret of {owner_id} is damaged in the store") from None
        for position, cipher in enumerate(self._ciphers):
            try:
                return position, cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], owner_id.encode()).decode()
            except (InvalidTag, ValueError):
                continue
        raise UnreadableSecretError(
            f"no key in RELAY_ENCRYPTION_KEYS opens the secret of {owner_id}: add the key that sealed it"
        )
