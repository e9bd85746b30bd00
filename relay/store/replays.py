"""Replays at rest, and the step that carries one on.

While replicas of two versions run, one may find a record that only the other can read. Invariant: that hides no other
record, and whoever meets it can end it by its name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from relay.core.errors import RelayError
from relay.core.log import SHELVED_MS, Place
from relay.core.replay import Ending, Only, Plan, Replay
from relay.store.keys import Keys, shard_of
from relay.store.leases import shard_resource
from relay.store.scripts import Client, Scripts, register

KEPT = 20
"""So many replays of a subscriber are remembered, the running one included."""

_PARTS = ("", ":at", ":matched", ":sent", ":end")
"""Of one record, each a field behind the replay's id."""

_pack = msgspec.msgpack.Encoder().encode
_unpack_plan = msgspec.msgpack.Decoder(Plan).decode
_unpack_ending = msgspec.msgpack.Decoder(Ending).decode

Marked = Sequence[tuple[Place, bool]]
"""Events in the order of the log, each with whether it is sent if, as far as the store knows, all is done."""


class UnreadableReplayError(RelayError):
    """Another version of the relay has written the record."""


class Verdict(StrEnum):
    """What became of a step."""

    OK = "OK"
    FENCED = "FENCED"
    """Another replica holds the shard."""
    STOPPED = "STOPPED"
    """The replay has ended, or its subscriber is gone."""
    MOVED = "MOVED"
    """It stands elsewhere than was believed: read it again."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a step came to."""

    verdict: Verdict
    passed: int = 0
    """Events that lie behind it; the rest is to wait until the cursor has passed it."""
    due: Sequence[str] = ()
    """Names among the retries of what goes out."""


class ReplayStore:
    """The replays of all subscribers; of each at most one is running."""

    def __init__(self, client: Client, keys: Keys, scripts: Scripts) -> None:
        self._client = client
        self._keys = keys
        self._begin = register(client, "replay_begin", flags=scripts.flags)
        self._step = register(client, "replay_step", flags=scripts.flags)
        self._end = register(client, "replay_end", flags=scripts.flags)

    async def begin(self, plan: Plan) -> str:
        """Id of the replay that runs for the subscriber now: this one or the one in the way; '': no such subscriber."""
        keys = self._keys
        found, unreadable = await self._all(plan.subscriber_id)
        ended = [*(one.plan.id for one in found if one.ending is not None), *unreadable]  # one that runs is in the way
        running: bytes = await self._begin(
            keys=[keys.sub, keys.replaying, keys.replays(plan.subscriber_id), keys.ctl],
            args=[plan.subscriber_id, plan.id, _pack(plan), str(plan.after), *ended[KEPT - 1 :]],
        )
        return running.decode()

    async def end(self, subscriber_id: str, replay_id: str, ending: Ending) -> bool:
        """End it; False: it had ended before."""
        keys = [self._keys.replaying, self._keys.replays(subscriber_id), self._keys.ctl]
        return bool(await self._end(keys=keys, args=[subscriber_id, replay_id, _pack(ending)]))

    async def running(self) -> dict[str, str]:
        """Ids of the replays that are running, by subscriber."""
        found = await self._client.hgetall(self._keys.replaying)
        return {name.decode(): replay_id.decode() for name, replay_id in found.items()}

    async def of(self, subscriber_id: str) -> list[Replay]:
        """All that are remembered of a subscriber and can be read, the latest first."""
        return (await self._all(subscriber_id))[0]

    async def _all(self, subscriber_id: str) -> tuple[list[Replay], list[str]]:
        """All that are remembered, the latest first, and the ids of those that cannot be read."""
        fields: dict[bytes, bytes] = await self._client.hgetall(self._keys.replays(subscriber_id))
        found, unreadable = list[Replay](), list[str]()
        for name in (one.decode() for one in fields if b":" not in one):
            try:
                found.append(_replay([fields.get(f"{name}{part}".encode()) for part in _PARTS]))
            except UnreadableReplayError:
                unreadable.append(name)
        return sorted(found, key=lambda one: (one.plan.created_ms, one.plan.id), reverse=True), unreadable

    async def get(self, subscriber_id: str, replay_id: str) -> Replay | None:
        """One of them. Raises `UnreadableReplayError`."""
        parts = await self._client.hmget(self._keys.replays(subscriber_id), [f"{replay_id}{part}" for part in _PARTS])
        return None if parts[0] is None else _replay(parts)

    async def step(self, plan: Plan, token: int, at: Place, reach: Place, events: Marked, highest: int) -> Step:
        """Carry a replay on from `at`, past these events, to `reach`.

        `token` is of the subscriber's shard; `highest` is the greatest number that an attempt can have.
        """
        reply = await self._run(plan.subscriber_id, (token, plan.id, at, reach, plan.only, highest), events)
        verdict, passed, *due = reply if len(reply) > 1 else (*reply, 0)
        return Step(Verdict(verdict.decode()), passed, tuple(name.decode() for name in due))

    async def count(self, subscriber_id: str, only: Only, events: Marked, highest: int) -> int:
        """How many of these events a replay would send; nothing is changed."""
        _, _, *due = await self._run(subscriber_id, (0, "", "", "", only, highest), events)
        return len(due)

    async def outstanding(self, subscriber_id: str, names: Sequence[str], *, behind: bool) -> list[str]:
        """Which of these still stand among the retries: nobody has attempted them to the end.

        `behind` says whether those count which wait for an earlier event of their entity.
        """
        key = self._keys.retries(shard_of(subscriber_id))
        scores = await self._client.zmscore(key, names) if names else []
        limit = float("inf") if behind else SHELVED_MS
        return [name for name, score in zip(names, scores, strict=True) if score is not None and score <= limit]

    async def _run(self, subscriber_id: str, how: Sequence[Any], events: Marked) -> list[Any]:
        keys, shard = self._keys, shard_of(subscriber_id)
        token, *rest = how
        marked = [text for place, again in events for text in (str(place), int(again))]
        reply: list[Any] = await self._step(
            keys=[
                *(keys.lease, keys.replaying, keys.replays(subscriber_id), keys.sub, keys.log, keys.cursors(shard)),
                *(keys.retries(shard), keys.asked(shard), keys.dead(subscriber_id), keys.ctl),
            ],
            args=[shard_resource(shard), token, subscriber_id, shard, *map(str, rest), *marked],
        )
        return reply


def _replay(parts: Sequence[bytes | None]) -> Replay:
    plan, at, matched, sent, ending = parts
    try:
        return Replay(
            _unpack_plan(plan or b""),
            Place.parse(at or b""),
            int(matched or b""),
            int(sent or b""),
            None if ending is None else _unpack_ending(ending),
        )
    except (msgspec.MsgspecError, ValueError):
        raise UnreadableReplayError("another version of the relay has written this replay") from None
