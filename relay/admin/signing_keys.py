"""Signing secrets and key pairs: made, sealed, rotated. A private key leaves this module sealed only."""

import contextlib
import hmac
import os
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr

from relay.clock import Clock
from relay.core.keyring import NONCE_BYTES, Keyring, UnreadableSecretError
from relay.core.rotation import alive, rotated
from relay.core.signing import Scheme, format_private_key, format_public_key, format_secret
from relay.core.subscriber import StoredSecret, Subscriber

SECRET_BYTES: Final = 32

log = structlog.get_logger()


class Made(NamedTuple):
    """A new secret or key pair."""

    stored: StoredSecret
    secret: str | None
    """To be told once; None for a key pair, whose private half is told to nobody."""


class SigningKeys:
    """Writes nothing to the store. `new_secret` makes the first secret of a subscriber that brings none."""

    def __init__(self, keyring: Keyring, clock: Clock, new_secret: Callable[[], str]) -> None:
        self._keyring = keyring
        self._clock = clock
        self._new_secret = new_secret

    def first(self, subscriber_id: str, signature: Scheme, brought: SecretStr | None = None) -> Made:
        """What a subscriber begins with."""
        if signature == "v1a":
            return self._key_pair(subscriber_id)
        return self._sealed(subscriber_id, brought.get_secret_value() if brought else self._new_secret())

    def rotated(self, old: Subscriber, overlap_s: float, brought: SecretStr | None) -> tuple[Subscriber, str | None]:
        """Put a new one first, the others next to it for `overlap_s`; raises `TooManySecretsError`.

        A secret that no key of the ring opens can sign nothing, and would keep the others from it: it goes.
        """
        if old.signature == "v1a":
            made = self._key_pair(old.id)
        else:
            # Not `new_secret`: the sandbox's is always the same.
            fresh = brought.get_secret_value() if brought else format_secret(os.urandom(SECRET_BYTES))
            made = self._sealed(old.id, fresh)
        readable = [one for one in old.secrets if self._plain(old, one) is not None]
        secrets = rotated(readable, made.stored, self._clock.now(), overlap_s)
        if len(readable) < len(old.secrets):
            log.warning("subscriber.secret_lost", subscriber=old.id, count=len(old.secrets) - len(readable))
        return msgspec.structs.replace(old, secrets=secrets), made.secret

    def current(self, subscriber: Subscriber) -> str | None:
        """The secret that signs; None for a key pair, or if no key of the ring opens it."""
        return self._plain(subscriber, subscriber.secrets[0]) if subscriber.signature == "v1" else None

    def holds(self, subscriber: Subscriber, secret: SecretStr) -> bool:
        """Whether it is one of the secrets that sign."""
        wanted = secret.get_secret_value().encode()
        plain = [self._plain(subscriber, one) for one in alive(subscriber.secrets, self._clock.now())]
        return any(hmac.compare_digest(one.encode(), wanted) for one in plain if one is not None)

    def tidied(self, subscriber: Subscriber) -> Subscriber:
        """Without the secrets whose time is over, the others sealed by the first key of the ring."""
        secrets = tuple(self._resealed(subscriber, one) for one in alive(subscriber.secrets, self._clock.now()))
        return msgspec.structs.replace(subscriber, secrets=secrets)

    def _resealed(self, owner: Subscriber, secret: StoredSecret) -> StoredSecret:
        with contextlib.suppress(UnreadableSecretError):  # its key may come back
            sealed = self._keyring.reseal(secret.sealed, owner.id, os.urandom(NONCE_BYTES))
            return msgspec.structs.replace(secret, sealed=sealed)
        return secret

    def _plain(self, owner: Subscriber, secret: StoredSecret) -> str | None:
        try:
            return self._keyring.open(secret.sealed, owner.id)
        except UnreadableSecretError:
            return None

    def _key_pair(self, subscriber_id: str) -> Made:
        key = Ed25519PrivateKey.generate()
        stored = self._sealed(subscriber_id, format_private_key(key)).stored
        return Made(msgspec.structs.replace(stored, public_key=format_public_key(key.public_key())), None)

    def _sealed(self, subscriber_id: str, secret: str) -> Made:
        sealed = self._keyring.seal(secret, subscriber_id, os.urandom(NONCE_BYTES))
        return Made(StoredSecret(sealed=sealed), secret)
