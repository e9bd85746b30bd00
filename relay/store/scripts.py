"""The Lua scripts, loaded once. Each is idempotent, so a call whose reply was lost may be repeated."""

from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Any

Client = Any
"""A redis-py asyncio client (single server, Sentinel or Cluster) that answers with bytes; the library's own
annotations are unions of every response mode that it has."""

Script = Callable[[Sequence[str], Sequence[Any]], Awaitable[Any]]


def register(client: Client, name: str) -> Any:
    """A script that is sent by its hash, and whole when the server has not got it (EVALSHA, EVAL on NOSCRIPT)."""
    return client.register_script(resources.files("relay.store").joinpath(f"lua/{name}.lua").read_text("utf-8"))


class Scripts:
    """The relay's scripts on one server."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.tick = self._script("tick")
        self.mint = self._script("mint")
        self.commit = self._script("commit")
        self.register = self._script("register")

    def _script(self, name: str) -> Script:
        registered = register(self._client, name)

        async def run(keys: Sequence[str], args: Sequence[Any]) -> Any:
            return await registered(keys=keys, args=args)

        return run
