"""What users of other webhook senders complain of in public issue trackers: the store was away, or came back empty.

svix/svix-webhooks, hookdeck/outpost; each test names its issue.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from relay.core.log import START, Place
from relay.sandbox import Sandbox
from relay.store import Store
from relay.store.connect import connect
from relay.store.keys import shard_of
from tests.complaints.conftest import MortalStore
from tests.helpers import ValkeyProcess, command, free_port, wait_until
from tests.service.rig import Replica, Rig, failing_first, refuse, rigged
from tests.store.minting import Minter
from tests.system.receiver import Receiver
from tests.system.relay_process import RelayProcess, relay

OWN_STORE = {
    "RELAY_ADMIN_TOKENS": ["a-token-that-is-long-enough"],
    "RELAY_ENCRYPTION_KEYS": ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="],
}


async def _answer(relay: RelayProcess, path: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{relay.ops_port}{path}") as answer:
        return answer.status


async def _is_unready(relay: RelayProcess) -> bool:
    return await _answer(relay, "/readyz") == 503


async def _hears(receiver: Receiver, upstream: Sandbox, status: int) -> None:
    """Let a lab change, and wait until the subscriber is told."""
    upstream.lod.put(1000, CompletionStatus=status)
    before = len(receiver.events)
    await wait_until(lambda: len(receiver.events) > before, 15, what="the next change is told")


async def test_svix_1844_a_store_that_was_restarted_is_picked_up_again(
    tmp_path: Path, upstream: Sandbox, settings: dict[str, Any], receiver: Receiver, mortal_store: MortalStore
) -> None:
    """svix#1844: a restart of Redis left the server in limbo (`NOGROUP`) until it was restarted too.

    Here the process lives through it: with its data everything goes on; emptied, it says that subscribers are gone, and
    the first one that is registered again is told of what changes from then on.
    """
    upstream.lod.put(1000, CompletionStatus=3)
    given = {**settings, **OWN_STORE, "RELAY_REDIS_URL": mortal_store.url}
    async with relay(tmp_path / "data", settings=given) as process:
        receiver.secret = (await process.subscribe(receiver.url, event_types=["lab.*"]))["secret"]
        await process.polled("lod")
        for empty in (False, True):
            await _hears(receiver, upstream, 50 if empty else 60)
            mortal_store.kill()
            await wait_until(partial(_is_unready, process))
            assert await _answer(process, "/healthz") == 200, "an orchestrator must not restart it for this"
            mortal_store.start(empty=empty)
            await wait_until(process.is_ready)
        assert (await process.call("GET", "/v1/subscribers"))["data"] == []
        receiver.secret = (await process.subscribe(receiver.url, event_types=["lab.*"]))["secret"]
        await _hears(receiver, upstream, 4)
        assert process.running
    assert receiver.contradictions == []


async def test_outpost_719_an_outage_of_the_store_does_not_end_the_retries(
    mortal_rig: Rig, mortal_store: MortalStore
) -> None:
    """outpost#719: three seconds without Redis ended the retry worker for good.

    Here every loop meets the dead store several times, for half a minute by its own clock, and goes on afterwards.
    """
    await mortal_rig.subscribe("a", retry_schedule_s=(0.2,) * 20)
    replica = await mortal_rig.started()
    mortal_rig.hooks.behaviours["a"] = refuse
    ids = await mortal_rig.minter.mint(5)
    await wait_until(lambda: len(mortal_rig.hooks.hits["a"]) >= 5)
    mortal_store.kill()
    await wait_until(lambda: _errors(replica) >= 20)
    replica.clock.ahead_s += 30
    assert replica.leases.shard_token(shard_of("a")) is None
    mortal_store.start()
    del mortal_rig.hooks.behaviours["a"]
    await mortal_rig.all_accepted("a", ids)
    await mortal_rig.committed("a")


def _errors(replica: Replica) -> float:
    return float(replica.metrics.store_errors._value.get())


class Wire:
    """A TCP forwarder to a server; connections through it can be let hang for ever, without a word."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.dead = asyncio.Event()
        self.opened = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward both ways until one side closes, or the wire is dead for this connection."""
        self.opened += 1
        dead = self.dead
        there, back = await asyncio.open_connection("127.0.0.1", self._port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if not dead.is_set():
                        sink.write(data)
            sink.transport.abort()

        await asyncio.gather(pump(reader, back), pump(there, writer))

    def cut(self) -> None:
        """Everything that is open now hangs; what is dialled from now on works."""
        self.dead.set()
        self.dead = asyncio.Event()


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[tuple[Wire, str]]:
    """A wire to a server of its own, and the URL at its near end."""
    far = ValkeyProcess(tmp_path / "v", port=free_port())
    far.wait_ready()
    made = Wire(far.port)
    server = await asyncio.start_server(made.carry, "127.0.0.1", 0)
    try:
        yield made, f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        far.kill()
        await asyncio.sleep(0.01)  # the pumps see their ends closed


@pytest.mark.usefixtures("quick")
async def test_outpost_998_a_dropped_connection_is_dialled_again(
    wire: tuple[Wire, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """outpost#998: a connection that was dropped was never dialled again.

    Here it is, whether the server closes it or the network swallows it without a word.
    """
    line, url = wire
    monkeypatch.setattr("tests.service.rig.connect", partial(connect, socket_timeout_s=0.5))
    async with connect(url, socket_timeout_s=0.5) as client, rigged(url, Store(client)) as rig:
        rig.hooks.behaviours["a"] = failing_first(1)
        await rig.subscribe("a")
        replica = await rig.started()
        ids = await rig.minter.mint(3)
        await command(client, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
        await rig.all_accepted("a", ids)
        opened = line.opened
        line.cut()
        with contextlib.suppress(Exception):
            await client.ping()
        ids += await rig.minter.mint(3)
        await rig.all_accepted("a", ids)
        await rig.committed("a")
        assert line.opened > opened
        assert _errors(replica) > 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short leases and short waits."""
    monkeypatch.setattr("relay.leases.TICK_S", 0.05)
    monkeypatch.setattr("relay.dispatcher.tail.BLOCK_MS", 200)
    monkeypatch.setattr("relay.dispatcher.service.STORE_PAUSE_S", 0.02)


async def test_outpost_486_an_idle_relay_asks_little_of_the_store(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """outpost#486, outpost#1014: idle polling cost six million commands a day, or seventy a second.

    Here a dispatcher with nothing to do sends fewer than seven, those inside its scripts counted, however many
    subscribers it has.
    """
    monkeypatch.undo()  # production's own intervals
    names = [f"s{number}" for number in range(60)]
    for name in names:
        await rig.subscribe(name)
    await rig.started()
    ids = await rig.minter.mint(1)
    for name in names:
        await rig.all_accepted(name, ids)
    await rig.committed(*names)
    before, began = await _commands(rig), time.monotonic()
    await asyncio.sleep(1.0)
    assert await _commands(rig) - before <= 7 * (time.monotonic() - began)


async def _commands(rig: Rig) -> int:
    """Commands that clients have sent so far."""
    return int((await rig.store.client.info("stats"))["total_commands_processed"])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """URL of a Cluster of one node, which refuses what names keys of two slots."""
    cluster_port = str(free_port())
    node = ValkeyProcess(tmp_path / "c", "--cluster-enabled", "yes", "--cluster-port", cluster_port, port=free_port())
    node.wait_ready()
    yield f"redis+cluster://127.0.0.1:{node.port}"
    node.kill()


async def test_outpost_461_a_cluster_is_a_store_like_any_other(
    tmp_path: Path, upstream: Sandbox, settings: dict[str, Any], receiver: Receiver, cluster: str
) -> None:
    """outpost#461, svix#1511: the server crashed with a Redis Cluster.

    Here it polls, mints, delivers, retries, lists and redelivers on one.
    """
    async with connect(f"redis://127.0.0.1:{urlsplit(cluster).port}") as node:
        await command(node, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await wait_until(lambda: _is_formed(node))
    upstream.lod.put(1000, CompletionStatus=3)
    given = {**settings, **OWN_STORE, "RELAY_REDIS_URL": cluster, "RELAY_REDIS__WAIT_REPLICAS": "0"}
    async with relay(tmp_path / "data", settings=given) as process:
        receiver.status = 500
        receiver.secret = (await process.subscribe(receiver.url, event_types=["lab.*"]))["secret"]
        await process.polled("lod")
        upstream.lod.put(1000, CompletionStatus=4, End="now")
        await wait_until(lambda: _is_listed(process, "pending"), 15)
        receiver.status = 204
        await receiver.wait_for(1)
        await wait_until(lambda: _is_listed(process, "delivered"))
        answer = await process.call(
            "POST", "/v1/deliveries/redeliver", {"status": "delivered", **await _whose(process)}
        )
        assert answer["count"] == 1
        await wait_until(lambda: receiver.deliveries == 2)


async def _is_formed(node: Any) -> bool:
    return b"cluster_state:ok" in await command(node, "CLUSTER", "INFO")


async def _is_listed(process: RelayProcess, status: str) -> bool:
    return bool((await process.call("GET", f"/v1/deliveries?status={status}"))["data"])


async def _whose(process: RelayProcess) -> dict[str, str]:
    (subscriber,) = (await process.call("GET", "/v1/subscribers"))["data"]
    return {"subscriber_id": subscriber["id"]}


async def test_svix_1844_an_emptied_store_whose_clock_is_behind_is_noticed(rig: Rig) -> None:
    """svix#1844: limbo after a restart of Redis.

    Here also if all that is new stands before what was read: the replica reads on from where the store now ends.
    """
    subscriber = await rig.subscribe("a")
    replica = await rig.started()
    ids = await rig.minter.mint(1)
    await rig.all_accepted("a", ids)
    ahead = Place((await rig.store.deliveries.now_ms()) + 3_600_000, 0)
    await rig.store.client.xadd("{relay}:ctl", {"k": "poll", "v": "lod"}, id=str(ahead))
    await wait_until(lambda: ("poll", "lod") in replica.controls)
    await rig.store.client.flushall()
    rig.minter = Minter(rig.store)
    await rig.store.registry.create(subscriber)
    rig._since["a"] = START
    rig.hooks.accepted.clear()
    again = await rig.minter.mint(2)
    await rig.all_accepted("a", again)
    await rig.committed("a")
