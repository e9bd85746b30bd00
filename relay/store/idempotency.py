"""Requests that carry an idempotency key: which were begun, and what they were answered with.

Invariant: of several tries at once, on whatever replica, one is under way; one that died is taken over, with its seed.
"""

import secrets
from typing import Final, Literal, NamedTuple

from redis.exceptions import OutOfMemoryError

from relay.store.keys import Keys
from relay.store.scripts import Scripts

SALT_BYTES: Final = 32
_SERVER_TIME = ""


class Begin(NamedTuple):
    """What beginning a request came to."""

    kind: Literal["begun", "answered", "under way", "other"]
    """`other`: the key was used with another body."""
    seed: str = ""
    """Begun: the same for every try of this request, so that what they make has one id."""
    answer: str = ""
    """Answered: as it was given to `keep`; empty: it was carried out, and no answer is kept."""
    salt: str = ""
    """Begun, answered: of the keys that seal answers. An answer that was kept under another one is erased."""


class IdempotencyStore:
    """One record per request, by a hash; it is gone `ttl_ms` after its first try."""

    def __init__(self, keys: Keys, scripts: Scripts) -> None:
        self._keys = keys
        self._scripts = scripts

    async def begin(
        self, record: str, fingerprint: str, owner: str, *, hold_ms: int, ttl_ms: int, now_ms: int | None = None
    ) -> Begin:
        """Begin, or say why not; `owner` is unique to this try."""
        now = _SERVER_TIME if now_ms is None else now_ms
        kind, *more = await self._scripts.begin(
            [self._keys.idempotency(record), self._keys.answers],
            [fingerprint, owner, hold_ms, ttl_ms, now, secrets.token_hex(SALT_BYTES)],
        )
        match kind:
            case b"begun":
                return Begin("begun", seed=more[0].decode(), salt=more[1].decode())
            case b"answered":
                return Begin("answered", answer=more[0].decode(), salt=more[1].decode())
            case b"under way":
                return Begin("under way")
            case _:
                return Begin("other")

    async def hold(self, record: str, owner: str, hold_ms: int, *, now_ms: int | None = None) -> bool:
        """Say that it is still under way; False if it was taken over."""
        return await self._finish(record, owner, "held", hold_ms, _SERVER_TIME if now_ms is None else now_ms)

    async def keep(self, record: str, owner: str, answer: str) -> bool:
        """Keep the answer for whoever repeats the request; False if it was taken over, or memory is full."""
        try:
            return bool(await self._scripts.keep([self._keys.idempotency(record)], [owner, answer]))
        except OutOfMemoryError:
            await self.done(record, owner)
            return False

    async def done(self, record: str, owner: str) -> bool:
        """It was carried out, and its answer is not kept; False if it was taken over."""
        return await self._finish(record, owner, "done")

    async def refuse(self, record: str, owner: str) -> bool:
        """It has changed nothing: the key is free again."""
        return await self._finish(record, owner, "refused")

    async def fail(self, record: str, owner: str) -> bool:
        """It may have changed something: whoever repeats it goes on with its seed."""
        return await self._finish(record, owner, "failed")

    async def _finish(self, record: str, owner: str, what: str, value: str | int = "", now: str | int = "") -> bool:
        return bool(await self._scripts.finish([self._keys.idempotency(record)], [owner, what, value, now]))
