"""What was erased goes from the server's disk: its append-only file is written anew.

Invariant: `rewritten` is a time at which a rewrite began that is known to have ended well, so all that was erased
before is gone from the file. A rewrite that a restart has cut off is begun again: only the server that began it can
have ended it.
"""

from dataclasses import dataclass

from redis.exceptions import ResponseError

from relay.store.keys import Keys
from relay.store.scripts import Client

PAUSE_MS = 60_000
"""Least time between two rewrites: each writes everything that is kept, so several erasures share one."""
GONE_S = 180.0
"""Time within which a rewrite has ended that an erasure asks for: the pause, and two looks at how it goes."""


@dataclass(frozen=True, slots=True)
class _Notes:
    """What stands in the relay's own record, in Unix ms by the store's clock."""

    wanted: int
    """When something was erased last."""
    began: int
    by: str
    """The run of the server that began it."""
    rewritten: int


class Disk:
    """The file of one server; its replicas keep files of their own, which no client can reach."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def want(self) -> bool:
        """Note that something was erased, and begin at once if that is possible; False as `turn`."""
        await self._client.hset(self._keys.meta, "erased", await self._now_ms())
        return await self.turn()

    async def turn(self) -> bool:
        """Begin a rewrite if one is wanted, or note that it has ended; to be called now and then.

        False: the server has no such file, or does not let the relay have it written.
        """
        notes = await self._notes()
        if notes.wanted <= notes.rewritten:
            return True
        info = await self._client.info()
        if not info.get("aof_enabled"):
            return False
        if info.get("aof_rewrite_in_progress") or info.get("aof_rewrite_scheduled"):
            return True
        run, good = str(info["run_id"]), info.get("aof_last_bgrewrite_status") == "ok"
        if notes.by == run and good and notes.rewritten < notes.began:
            await self._client.hset(self._keys.meta, "rewritten", notes.began)
            if notes.wanted <= notes.began:
                return True
        now_ms = await self._now_ms()
        return (now_ms - notes.began < PAUSE_MS and notes.by == run and good) or await self._begin(now_ms, run)

    async def _begin(self, now_ms: int, run: str) -> bool:
        try:
            await self._client.bgrewriteaof()
        except ResponseError:  # not permitted
            return False
        await self._client.hset(self._keys.meta, mapping={"rewrite": now_ms, "rewrite:by": run})
        return True

    async def _notes(self) -> _Notes:
        fields = ("erased", "rewrite", "rewrite:by", "rewritten")
        wanted, began, by, rewritten = await self._client.hmget(self._keys.meta, fields)
        return _Notes(int(wanted or 0), int(began or 0), (by or b"").decode(), int(rewritten or 0))

    async def _now_ms(self) -> int:
        seconds, microseconds = await self._client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000
