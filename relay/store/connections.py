"""Connections that know their place: none outlives its server's right to take writes.

On a Sentinel installation or a Cluster, a connection looks up the node that takes writes each time it is opened. All
keys of a relay share one slot, so one node is all that it needs, and a plain client works on every topology.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeoutError

from relay.store.redis_url import Address

SEED_TIMEOUT_S = 1.0
"""What one silent Sentinel or seed node may cost before the next one is asked."""

_REFUSALS = (ReadOnlyError, AskError, TryAgainError, ClusterDownError)
"""Not this server, or not now. MOVED is an ASK and MASTERDOWN a CLUSTERDOWN to redis-py."""


class _Guarded(AbstractConnection):
    """Closes itself, and the idle ones of its pool, when the server says that it does not take writes (any more).

    The caller sees a `redis.ConnectionError` and tries again later, on a connection that finds the right server.
    """

    def __init__(self, *, on_refusal: Callable[[], Awaitable[None]] | None = None, **kwargs: Any) -> None:
        self._on_refusal = on_refusal
        super().__init__(**kwargs)

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the library's signature
        """Send within the socket's time-out.

        The library's own version waits with `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that
        arrives when the sending is done (https://github.com/python/cpython/issues/86296): a cancelled loop would
        then run on for ever. It also makes a task for every command.
        """
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]  # annotated nowhere
        parts = [command.encode()] if isinstance(command, str) else command
        parts = [parts] if isinstance(parts, bytes) else parts
        try:
            async with asyncio.timeout(self.socket_timeout):
                await self._send_packed_command(parts)
        except BaseException as error:
            await self.disconnect(nowait=True)  # half a command may be on its way
            if isinstance(error, TimeoutError):
                raise StoreTimeoutError("the store does not read what it is sent") from None
            if isinstance(error, OSError):
                raise StoreConnectionError(f"the connection broke ({type(error).__name__})") from error
            raise

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().read_response(*args, **kwargs)
        except _REFUSALS as error:
            await self.disconnect()
            if self._on_refusal is not None:
                await self._on_refusal()
            raise StoreConnectionError(f"this server takes no writes now ({type(error).__name__})") from error


class TcpConnection(_Guarded, Connection):
    """To one server."""


class TlsConnection(_Guarded, SSLConnection):
    """To one server, encrypted."""


class UnixConnection(_Guarded, UnixDomainSocketConnection):
    """To a server on this machine."""


class Locator:
    """Finds the node that takes writes by asking seeds one after the other; the last good one is asked first."""

    def __init__(
        self,
        seeds: Sequence[Address],
        question: Sequence[str],
        read: Callable[[Any], Address | None],
        **connection: Any,
    ) -> None:
        self._seeds = list(seeds)
        self._question = question
        self._read = read
        self._connection = connection

    def __str__(self) -> str:
        return ", ".join(f"{host}:{port}" for host, port in self._seeds)

    async def __call__(self) -> Address:
        """Look it up now. Raises `redis.ConnectionError` if no seed knows it."""
        for seed in tuple(self._seeds):
            try:
                found = self._read(await self._ask(seed))
            except AuthenticationError:
                raise
            except (RedisError, OSError):
                continue
            if found is not None:
                self._seeds.remove(seed)
                self._seeds.insert(0, seed)
                return found[0] or seed[0], found[1]
        raise StoreConnectionError(f"none of {self} answers and knows the node that takes writes")

    async def _ask(self, seed: Address) -> Any:
        options = dict(self._connection)
        connection = options.pop("connection_class")(host=seed[0], port=seed[1], **options)
        try:
            async with asyncio.timeout(SEED_TIMEOUT_S):
                await connection.connect()
                await connection.send_command(*self._question)
                return await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)


def sentinel_locator(seeds: Sequence[Address], service: str, **connection: Any) -> Locator:
    """Ask Sentinels, as their client guidelines say (redis.io/docs/latest/develop/reference/sentinel-clients)."""

    def read(reply: Any) -> Address | None:
        return None if reply is None else (_text(reply[0]), int(reply[1]))

    return Locator(seeds, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service), read, **connection)


def cluster_locator(seeds: Sequence[Address], slot: int, **connection: Any) -> Locator:
    """Ask a Cluster's nodes; CLUSTER SLOTS is what all versions since 3.0 understand."""

    def read(reply: Any) -> Address | None:
        for first, last, primary, *_ in reply:
            if first <= slot <= last and primary[0] != b"?":
                return _text(primary[0]), int(primary[1])  # no host: "the one that you asked"
        return None

    return Locator(seeds, ("CLUSTER", "SLOTS"), read, **connection)


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


class _Roaming(_Guarded, Connection):
    """Opens to wherever the locator points, and makes sure that it is a primary: a seed may be out of date."""

    def __init__(self, *, locator: Locator, **kwargs: Any) -> None:
        self._locator = locator
        super().__init__(**kwargs)

    async def _connect(self) -> None:
        self.host, self.port = await self._locator()
        await super()._connect()  # type: ignore[no-untyped-call]  # redis-py annotates it not

    async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002  # redis-py's
        await super().on_connect_check_health(check_health=check_health)
        await self.send_command("ROLE", check_health=False)
        role, *_ = await self.read_response()
        if role != b"master":
            raise StoreConnectionError(f"{self.host}:{self.port} is not the primary any more")


class RoamingTcpConnection(_Roaming, TcpConnection):
    """To the node that takes writes."""


class RoamingTlsConnection(_Roaming, TlsConnection):
    """To the node that takes writes, encrypted."""


CONNECTIONS: Mapping[tuple[bool, bool], type[AbstractConnection]] = {
    (False, False): TcpConnection,
    (False, True): TlsConnection,
    (True, False): RoamingTcpConnection,
    (True, True): RoamingTlsConnection,
}
"""By (roaming, TLS)."""
