"""Sentinel and Cluster, built of real processes: the client finds the node that takes writes, and finds it again."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import ResponseError

from relay.core.errors import ConfigError
from relay.store.connect import check_server, connect
from tests.helpers import ValkeyProcess, command, free_port, wait_until

KEY = "{relay}:k"
SLOT = key_slot(b"{relay}")


@dataclass(frozen=True, slots=True)
class Topologies:
    """A primary with a replica, and two nodes of a Cluster of which the first owns every slot."""

    primary: ValkeyProcess
    replica: ValkeyProcess
    nodes: tuple[ValkeyProcess, ValkeyProcess]


@pytest.fixture(scope="module")
def topologies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topologies]:
    """All processes at once: a new Cluster keeps everybody waiting for two seconds."""
    directory = tmp_path_factory.mktemp("t")

    def start(*arguments: str) -> ValkeyProcess:
        port = free_port()
        return ValkeyProcess(directory / str(port), *arguments, port=port)

    cluster = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port")
    nodes = (start(*cluster, str(free_port())), start(*cluster, str(free_port())))
    primary = start("--repl-diskless-sync-delay", "0")
    replica = start("--replicaof", f"127.0.0.1 {primary.port}")
    processes = [*nodes, primary, replica]
    try:
        for process in processes:
            process.wait_ready()
        asyncio.run(_form_cluster(*nodes))
        yield Topologies(primary, replica, nodes)
    finally:
        for process in processes:
            process.kill()


async def _form_cluster(first: ValkeyProcess, second: ValkeyProcess) -> None:
    async with connect(first.url) as one, connect(second.url) as two:
        bus = (await two.config_get("cluster-port"))["cluster-port"]
        await command(one, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await command(one, "CLUSTER", "MEET", "127.0.0.1", second.port, int(bus or 0))


@pytest.fixture
def sentinels(topologies: Topologies, tmp_path: Path) -> Iterator[list[ValkeyProcess]]:
    """Three Sentinels that know each other from the start, instead of hearing of each other within seconds."""
    ports = [free_port() for _ in range(3)]
    started = []
    for own in ports:
        known = [f"sentinel known-sentinel main 127.0.0.1 {port} {port:040x}" for port in ports if port != own]
        lines = [
            f"sentinel myid {own:040x}",
            f"sentinel monitor main 127.0.0.1 {topologies.primary.port} 2",
            "sentinel down-after-milliseconds main 300",
            "sentinel failover-timeout main 2000",
            f"sentinel known-replica main 127.0.0.1 {topologies.replica.port}",
            *known,
        ]
        (tmp_path / str(own)).mkdir()
        (tmp_path / str(own) / "conf").write_text("\n".join(lines))
        started.append(ValkeyProcess(tmp_path / str(own), "conf", "--sentinel", port=own))
    try:
        for sentinel in started:
            sentinel.wait_ready()
        yield started
    finally:
        for sentinel in started:
            sentinel.kill()


async def takes_writes(client: Redis) -> bool:
    """Whether a write succeeds now."""
    try:
        return bool(await client.set(KEY, "v"))
    except StoreConnectionError:
        return False


async def test_client_follows_a_sentinel_failover(topologies: Topologies, sentinels: list[ValkeyProcess]) -> None:
    """After the primary dies the same client writes to the promoted replica, and a replicated write is still there."""
    hosts = ",".join(f"127.0.0.1:{port}" for port in (free_port(), *(sentinel.port for sentinel in sentinels)))
    async with connect(f"redis+sentinel://{hosts}/main/0") as client, connect(sentinels[0].url) as sentinel:
        await wait_until(lambda: has_replica(client))
        [volatile] = await check_server(client, wait_replicas=1)
        assert "append-only" in volatile
        await wait_until(lambda: writes_to_both(client, "{relay}:before"))
        await wait_until(lambda: sees_quorum(sentinel))
        topologies.primary.kill()
        await wait_until(lambda: takes_writes(client), timeout_s=30)
        assert await client.get("{relay}:before") == b"v"


async def writes_to_both(client: Redis, key: str) -> bool:
    """Whether a write reaches the replica."""
    async with client.pipeline(transaction=False) as pipe:
        pipe.set(key, "v")
        pipe.wait(1, 1000)
        return await pipe.execute() == [True, 1]


async def has_replica(client: Redis) -> bool:
    """Whether a replica is in step."""
    info = await client.info("replication")
    return bool(info["connected_slaves"] and info["slave0"]["state"] == "online")


async def sees_quorum(sentinel: Redis) -> bool:
    """Whether enough Sentinels are in touch to agree on a failover."""
    try:
        await command(sentinel, "SENTINEL", "CKQUORUM", "main")
    except ResponseError:
        return False
    return True


async def test_client_follows_its_slot_through_a_cluster(topologies: Topologies) -> None:
    """A plain client works on whichever node owns the relay's slot, and finds it again after it moved."""
    first, second = topologies.nodes
    async with (
        connect(f"redis+cluster://127.0.0.1:{second.port},127.0.0.1:{first.port}") as client,
        connect(first.url) as one,
        connect(second.url) as two,
    ):
        await wait_until(lambda: takes_writes(client))
        [volatile] = await check_server(client, wait_replicas=0)
        assert "append-only" in volatile
        script = client.register_script("return redis.call('incr', KEYS[1])")
        assert [await script(keys=["{relay}:n"]) for _ in range(2)] == [1, 2]
        await one.flushall()
        owner = await command(two, "CLUSTER", "MYID")
        for node in (two, one):
            await command(node, "CLUSTER", "SETSLOT", SLOT, "NODE", owner)
        with pytest.raises(StoreConnectionError, match="MovedError"):
            await client.set(KEY, "moved")
        await wait_until(lambda: takes_writes(client))
        assert await two.get(KEY) == b"v"


async def test_nobody_who_knows_is_an_error_that_names_the_seeds() -> None:
    """Unreachable seeds are all named."""
    ports = (free_port(), free_port())
    url = "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in ports) + "/main"
    async with connect(url) as client:
        with pytest.raises(ConfigError, match=f"127.0.0.1:{ports[0]}, 127.0.0.1:{ports[1]}"):
            await check_server(client, wait_replicas=0)
