"""Streams written anew: from an entry of a stream nothing can be cut out, so all of it is copied without that.

Invariant: the server never stands still for longer than a portion takes, however long the stream is, and whoever reads
sees the former stream until the new one is whole. One writes at a time; another one begins once that has ended, or has
not been heard of for `LEFT_MS`.
"""

import secrets
from collections.abc import Mapping
from typing import Final

from relay.core.errors import RelayError
from relay.store.scripts import Client, register

PORTION: Final = 500
"""Entries that are copied in one step: one to five milliseconds of the server's time."""
LEFT_MS: Final = 10_000
"""A copy whose writer has died is gone after this."""
_FIELD: Final = "a"


class MovedError(RelayError):
    """Somebody else writes the stream anew, or has done so meanwhile: read again what is to be changed."""


class Rewrite:
    """One stream that is written anew by this writer."""

    def __init__(self, client: Client, key: str, *, flags: bool) -> None:
        self._script = register(client, "compact", flags=flags)
        self._keys = [key, f"{key}:copy", f"{key}:writer", f"{key}:former"]
        self._writer = secrets.token_hex(8)
        self._at = ""

    async def begin(self) -> None:
        """Keep others from writing it; to be called first, before the changed entries are read."""
        await self._copy("-", {}, 0)

    async def go_on(self, reach: str, changed: Mapping[str, bytes]) -> None:
        """Copy up to a place, with these changes; `+` copies all that is left, and the copy is the stream then."""
        while not await self._copy(reach, changed, PORTION):
            pass

    async def at_once(self, most: int) -> bool:
        """Copy everything as it is in one step; False: there is more than that, and nothing has changed."""
        return await self._copy("+", {}, most)

    async def _copy(self, reach: str, changed: Mapping[str, bytes], count: int) -> bool:
        pairs = [part for pair in changed.items() for part in pair]
        args = [self._writer, self._at, reach, count, LEFT_MS, _FIELD, *pairs]
        verdict, *where = await self._script(keys=self._keys, args=args)
        if verdict == b"MOVED":
            raise MovedError
        if verdict == b"DONE":
            return True
        self._at = where[0].decode()
        return bool(where[1])
