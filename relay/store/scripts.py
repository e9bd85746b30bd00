"""The Lua scripts, loaded once. Each is idempotent, so a call whose reply was lost may be repeated.

Some begin with a line of flags (`#!lua flags=allow-oom`: run when memory is full), which servers before Redis 7.0 do
not know. To them the text is sent without that line; what it does is the same.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Any

_INCLUDE = re.compile(r"^-- include: (\w+)\n", re.MULTILINE)

Client = Any
"""A redis-py asyncio client (single server, Sentinel or Cluster) that answers with bytes; the library's own
annotations are unions of every response mode that it has."""

Script = Callable[[Sequence[str], Sequence[Any]], Awaitable[Any]]


def text_of(name: str, *, flags: bool = True) -> str:
    """A script's text with what it includes, without its line of flags if the server does not take them."""
    text = _INCLUDE.sub(lambda match: _read(match[1]), _read(name))
    return text if flags or not text.startswith("#!") else text.partition("\n")[2]


def _read(name: str) -> str:
    return resources.files("relay.store").joinpath(f"lua/{name}.lua").read_text("utf-8")


def register(client: Client, name: str, *, flags: bool = True) -> Any:
    """A script that is sent by its hash, and whole when the server has not got it (EVALSHA, EVAL on NOSCRIPT)."""
    return client.register_script(text_of(name, flags=flags))


class Scripts:
    """The relay's scripts on one server; `flags` says whether it takes a script's flags (Redis 7.0 and newer)."""

    def __init__(self, client: Client, *, flags: bool = True) -> None:
        self.flags = flags
        self._client = client
        self.tick = self._script("tick")
        self.mint = self._script("mint")
        self.commit = self._script("commit")
        self.register = self._script("register")
        self.begin = self._script("begin")
        self.finish = self._script("finish")
        self.keep = self._script("keep")

    def _script(self, name: str) -> Script:
        registered = register(self._client, name, flags=self.flags)

        async def run(keys: Sequence[str], args: Sequence[Any]) -> Any:
            return await registered(keys=keys, args=args)

        return run
