"""Clients and the check of their server, against real servers and, for what those cannot do, scripted ones."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeoutError

from relay.core.errors import ConfigError
from relay.store.connect import check_server, connect, judge, takes_script_flags, version_of
from tests.helpers import ValkeyProcess, command, free_port, wait_until

Serve = Callable[..., ValkeyProcess]

HEALTHY = {
    "redis_version": "7.2.4",
    "role": "master",
    "cluster_enabled": 0,
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
    "connected_slaves": 0,
}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start real servers on TCP ports, one per call."""
    started: list[ValkeyProcess] = []

    def start(*arguments: str) -> ValkeyProcess:
        port = free_port()
        started.append(ValkeyProcess(tmp_path / str(port), *arguments, port=port))
        started[-1].wait_ready()
        return started[-1]

    yield start
    for server in started:
        server.kill()


@asynccontextmanager
async def scripted(answer: bytes | None, seen: list[bytes]) -> AsyncIterator[str]:
    """A server that notes every read and gives always the same answer (none: silence, empty: hangs up)."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            seen.append(data)
            if answer == b"":
                break
            writer.write(answer or b"")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def complaint(url: str) -> str:
    """What `check_server` has against a server."""
    async with connect(url, socket_timeout_s=1) as client:
        with pytest.raises(ConfigError) as caught:
            await check_server(client, wait_replicas=0)
    return str(caught.value)


async def test_client_speaks_bytes_and_names_itself(redis_client: Redis) -> None:
    """Replies are bytes, and an operator recognises the relay's connections."""
    await redis_client.set("k", b"\xff")
    assert await redis_client.get("k") == b"\xff"
    assert {client["name"] for client in await redis_client.client_list()} == {"relay"}


async def test_database_number_and_credentials_are_used(serve: Serve) -> None:
    """The URL's database and password reach the server."""
    port = serve("--requirepass", "s3cret").port
    async with (
        connect(f"redis://:s3cret@127.0.0.1:{port}/3") as three,
        connect(f"redis://default:s3cret@127.0.0.1:{port}") as zero,
    ):
        await three.set("k", "v")
        assert (await three.dbsize(), await zero.dbsize()) == (1, 0)


async def test_command_whose_reply_is_lost_is_not_sent_again() -> None:
    """The client repeats nothing by itself."""
    seen: list[bytes] = []
    async with scripted(b"", seen) as address, connect(f"redis://{address}") as client:
        with pytest.raises(StoreConnectionError):
            await client.incr("n")
    assert len(seen) == 1


async def test_callers_wait_for_a_connection(valkey_server: str) -> None:
    """More callers than connections queue up instead of failing, each for a bounded time."""
    async with connect(valkey_server, connections=1, socket_timeout_s=0.2) as client:
        assert await asyncio.gather(*(client.incr("waiting") for _ in range(20)))
        blocking: asyncio.Future[Any] = asyncio.ensure_future(client.blpop(["nothing"], timeout=0.05))
        await wait_until(lambda: client.connection_pool._in_use_connections)
        assert await client.ping()
        assert await blocking is None


async def test_silent_server_is_given_up() -> None:
    """No call outlives the time-out."""
    async with scripted(None, []) as address, connect(f"redis://{address}", socket_timeout_s=0.05) as client:
        with pytest.raises(StoreTimeoutError):
            async with asyncio.timeout(2):
                await client.ping()


async def test_demoted_primary_loses_all_connections(serve: Serve) -> None:
    """READONLY closes the pool's connections and looks like a lost connection; a promoted server is used again."""
    server, other = serve(), serve()
    async with connect(server.url) as client, connect(server.url) as operator:
        await asyncio.gather(*(client.set("k", "v") for _ in range(5)))
        await operator.replicaof("127.0.0.1", other.port)
        with pytest.raises(StoreConnectionError, match="ReadOnlyError"):
            await client.set("k", "v")
        assert [c for c in client.connection_pool._available_connections if c.is_connected] == []
        await operator.replicaof("NO", "ONE")
        assert await client.set("k", "v")


async def test_healthy_server_passes_with_warnings_only(serve: Serve) -> None:
    """A durable server passes silently; weaker settings are warned about, with the line to run."""
    async with connect(serve("--appendonly", "yes", "--appendfsync", "always").url) as client:
        assert await check_server(client, wait_replicas=0) == []
        await client.config_set("appendfsync", "everysec")
        [lax] = await check_server(client, wait_replicas=0)
        [lonely] = await check_server(client, wait_replicas=1)
        await client.config_set("appendonly", "no")
        [volatile] = await check_server(client, wait_replicas=0)
    assert "CONFIG SET appendfsync always" in lax
    assert "0 connected replicas" in lonely
    assert "CONFIG SET appendonly yes" in volatile


async def test_unusable_servers_are_refused(serve: Serve) -> None:
    """Eviction, a replica and a Cluster's node under a plain URL are each refused with the mend."""
    primary = serve("--maxmemory-policy", "allkeys-lru")
    replica = serve("--replicaof", f"127.0.0.1 {primary.port}")
    node = serve("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    assert "CONFIG SET maxmemory-policy noeviction" in await complaint(primary.url)
    assert "read-only replica" in await complaint(replica.url)
    assert f"redis+cluster://127.0.0.1:{node.port}" in await complaint(node.url)


async def test_refused_credentials_are_not_shown(serve: Serve) -> None:
    """A missing and a wrong password are both named as the fault, and the wrong one is not quoted."""
    port = serve("--requirepass", "right").port
    assert "credentials" in await complaint(f"redis://127.0.0.1:{port}")
    wrong = await complaint(f"redis://:hunter2@127.0.0.1:{port}")
    assert "credentials" in wrong
    assert "hunter2" not in wrong


async def test_managed_service_without_config_passes(serve: Serve) -> None:
    """A user who may not run CONFIG can use the relay; one who may not run INFO is told so."""
    server = serve("--appendonly", "yes")
    async with connect(server.url) as operator:
        for name, denied in (("managed", "-config"), ("poor", "-info")):
            await command(operator, "ACL", "SETUSER", name, "on", ">pw", "~*", "+@all", denied)
    async with connect(f"redis://managed:pw@127.0.0.1:{server.port}") as client:
        [warning] = await check_server(client, wait_replicas=0)
    assert "CONFIG is not permitted" in warning
    assert "INFO" in await complaint(f"redis://poor:pw@127.0.0.1:{server.port}")


async def test_unreachable_server_is_named() -> None:
    """The message names host and port, and what to look at."""
    port = free_port()
    message = await complaint(f"redis://:hunter2@127.0.0.1:{port}")
    assert f"127.0.0.1:{port} cannot be reached" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"-LOADING valkey is loading the dataset in memory\r\n", "still loading"),
        (b"-ERR unknown command `HELLO`, with args: `3`, `AUTH`, `default`, `hunter2`\r\n", "6.2"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "cannot be reached"),
    ],
)
async def test_strange_answers_are_explained(answer: bytes, expected: str) -> None:
    """A loading server, one that is too old (and quotes the password) and one of another kind are told apart."""
    async with scripted(answer, []) as address:
        message = await complaint(f"redis://:hunter2@{address}")
    assert expected in message
    assert "hunter2" not in message


@pytest.mark.parametrize("version", ["5.0.14", "6.0.16", "unknown"])
def test_old_versions_are_refused(version: str) -> None:
    """A server that lacks commands which the scripts need is refused by its version."""
    info: dict[str, Any] = {**HEALTHY, "redis_version": version}
    with pytest.raises(ConfigError, match=r"6\.2"):
        judge(info, "always", wait_replicas=0, where="h:1", roaming=False)


def test_version_is_compared_as_numbers() -> None:
    """10.0 is newer than 6.2."""
    info: dict[str, Any] = {**HEALTHY, "redis_version": "10.0.1"}
    assert judge(info, "always", wait_replicas=0, where="h:1", roaming=False) == []


@pytest.mark.parametrize(
    ("version", "expected"),
    [("7.0.0", (7, 0)), ("6.2.14", (6, 2)), ("10.1", (10, 1)), ("7.4.0-v1", (7, 4)), ("unknown", ()), (None, ())],
)
def test_a_version_is_its_first_two_numbers(version: str | None, expected: tuple[int, ...]) -> None:
    """Whatever stands after them; what names none is older than everything."""
    assert version_of({"redis_version": version}) == expected


async def test_the_real_server_takes_script_flags(redis_client: Redis) -> None:
    """The embedded server does; that of an address where nobody listens cannot be asked."""
    assert await takes_script_flags(redis_client)
    async with connect(f"redis://127.0.0.1:{free_port()}") as nobody:
        with pytest.raises(ConfigError, match="cannot be reached"):
            await takes_script_flags(nobody)
