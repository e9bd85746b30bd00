"""Snapshots, and the one step in which they change together with the log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.core.errors import RelayError
from relay.core.model import Change
from relay.store.keys import STATE_BUCKETS, Keys
from relay.store.payloads import pack_content
from relay.store.scripts import Client, Scripts

LOAD_BATCH = 512
MAX_CHANGES = 200
"""Changes in one mint: keeps the server's pause below a few milliseconds."""


class FencedError(RelayError):
    """Somebody else has taken over; nothing was written."""


class LostTailError(RelayError):
    """The store does not remember what it confirmed before; nothing was written."""


@dataclass(frozen=True, slots=True)
class Minted:
    """What became of a batch of changes."""

    applied: int
    already: int
    conflicts: tuple[str, ...]
    """Entities whose stored snapshot was not the expected one: reload and diff again."""


class SnapshotStore:
    """The snapshots of every source."""

    def __init__(self, client: Client, keys: Keys, scripts: Scripts) -> None:
        self._client = client
        self._keys = keys
        self._scripts = scripts

    async def load(self, source: str) -> dict[str, bytes]:
        """Every stored snapshot of a source, packed, by entity."""
        found: dict[str, bytes] = {}
        for first in range(0, STATE_BUCKETS, LOAD_BATCH):
            pipe = self._client.pipeline(transaction=False)
            for bucket in range(first, first + LOAD_BATCH):
                pipe.hgetall(self._keys.state_bucket(source, bucket))
            for snapshots in await pipe.execute():
                found.update((entity.decode(), packed) for entity, packed in snapshots.items())
        return found

    async def load_one(self, source: str, entity_id: str) -> bytes | None:
        """One stored snapshot, packed."""
        packed: bytes | None = await self._client.hget(self._keys.state(source, entity_id), entity_id)
        return packed

    async def fence(self, source: str) -> tuple[int, int]:
        """Token and observation of the latest mint; (0, 0) before any."""
        stored = await self._client.get(self._keys.fence(source))
        token, _, observation = (stored or b"0:0").partition(b":")
        return int(token), int(observation)

    async def mint(
        self,
        fence_of: str,
        token: int,
        observation: int,
        changes: Sequence[tuple[str, Change]],
        meta: Mapping[str, str] | None = None,
        *,
        last: int | None = None,
    ) -> Minted:
        """Commit up to `MAX_CHANGES` (source, change) pairs under the fence of `fence_of`.

        `meta` is written too if nothing was in conflict. `last` is the observation that this token is known to have
        written last. Raises `FencedError`, and `LostTailError` if the store has forgotten that one.
        """
        keys = [
            self._keys.fence(fence_of),
            self._keys.log,
            self._keys.meta,
            self._keys.payloads,
            self._keys.counters,
        ]
        numbers: dict[str, int] = {}

        def number(key: str) -> int:
            if key not in numbers:
                keys.append(key)
                numbers[key] = len(keys)
            return numbers[key]

        args: list[Any] = [token, observation, "" if last is None else last, len(changes)]
        for source, change in changes:
            state = number(self._keys.state(source, change.entity_id))
            args += (state, change.entity_id, change.expected, change.new, len(change.events))
            for event in change.events:
                line, tag = self._keys.timeline(event.source, event.entity_id)
                args += (number(self._keys.index(event.id)), number(line), tag)
                args += (event.id, event.type, event.source, event.entity_id)
                args.append(pack_content(event.payload, event.private))
        pairs = list((meta or {}).items())
        args += (len(pairs), *(text for pair in pairs for text in pair))
        verdict, *counts = await self._scripts.mint(keys, args)
        if verdict == b"FENCED":
            raise FencedError(f"source {fence_of} was taken over by another replica")
        if verdict == b"LOST":
            raise LostTailError(f"the store has lost the latest writes of source {fence_of}")
        applied, already, *conflicts = counts
        return Minted(applied, already, tuple(entity.decode() for entity in conflicts))

    async def meta(self, *fields: str) -> list[str | None]:
        """Fields of the relay's own record, None where there is none."""
        values = await self._client.hmget(self._keys.meta, list(fields))
        return [None if value is None else value.decode() for value in values]
