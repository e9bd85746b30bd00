"""The life of an embedded store: real servers, real processes, real SIGKILLs."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as StoreConnectionError

from relay.store.connect import connect
from relay.store.embedded import EmbeddedStore
from relay.store.process import Health, probe
from tests.helpers import Start, embedded, is_free, said, server_pid, wait_until

ORPHAN_MAKER = """
import asyncio, os, sys, threading
from pathlib import Path
from relay.store.embedded import EmbeddedStore

thread = threading.Thread(target=lambda: asyncio.run(EmbeddedStore(Path(sys.argv[1])).ensure()))
thread.start()
thread.join()
os._exit(9)
"""
"""Dies at once and leaves its server behind, as on a system without a parent-death signal."""


def open_to_others(directory: Path) -> list[Path]:
    """Whatever another user could get at."""
    return [path for path in [directory, *directory.rglob("*")] if path.stat().st_mode & 0o077]


async def test_started_server_is_private_and_durable(data_dir: Path) -> None:
    """The server fsyncs before it answers, never evicts, has no TCP port, and only its owner can reach its files."""
    async with embedded(data_dir, max_memory="64mb") as store, connect(store.url) as client:
        config: dict[Any, Any] = {}
        for name in ("appendonly", "appendfsync", "maxmemory-policy", "port", "maxmemory", "save"):
            config |= await client.config_get(name)
        assert {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "port": "0",
            "maxmemory": str(64 << 20),
            "save": "",
        } == config
        assert open_to_others(data_dir) == []
        assert (store.attached, store.pid) == (False, server_pid(data_dir))


async def test_ensure_is_repeatable(data_dir: Path) -> None:
    """Repeated and simultaneous calls in one process find the one server and keep its owner."""
    async with embedded(data_dir) as store:
        pid = store.pid
        await asyncio.gather(store.ensure(), store.ensure())
        assert (store.pid, store.attached) == (pid, False)


async def test_terminal_signals_do_not_reach_the_server(data_dir: Path) -> None:
    """The server has its own session, so that Ctrl-C stops the relay first."""
    async with embedded(data_dir) as store:
        assert store.pid is not None
        assert os.getsid(store.pid) == store.pid != os.getsid(0)


async def test_server_does_not_see_the_relays_secrets(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RELAY_ variables, which may hold credentials, stay out of the server's environment."""
    seen: dict[str, str] = {}
    real = subprocess.Popen

    def spy(*args: Any, **kwargs: Any) -> "subprocess.Popen[bytes]":
        seen.update(kwargs["env"])
        return real(*args, **kwargs)

    monkeypatch.setenv("RELAY_ADMIN_TOKENS", "s3cret")
    monkeypatch.setattr(subprocess, "Popen", spy)
    async with embedded(data_dir):
        assert "PATH" in seen
        assert "RELAY_ADMIN_TOKENS" not in seen


async def test_last_relay_out_stops_the_server(data_dir: Path) -> None:
    """A store that others use survives one user's exit; the last exit stops it and leaves the directory free."""
    async with embedded(data_dir) as first:
        async with embedded(data_dir) as second:
            assert (second.attached, second.pid, second.url) == (True, None, first.url)
        assert await probe(data_dir / "valkey.sock") is Health.READY
    assert is_free(data_dir)
    assert await probe(data_dir / "valkey.sock") is Health.GONE


async def test_stop_twice_or_before_start_is_harmless(data_dir: Path) -> None:
    """Leaving is idempotent, and harmless without a server."""
    store = EmbeddedStore(data_dir)
    await store.stop()
    await store.ensure()
    await store.stop()
    await store.stop()
    assert is_free(data_dir)


async def test_relay_can_return_after_it_left(data_dir: Path) -> None:
    """What was written before a clean stop is there after the next start."""
    store = EmbeddedStore(data_dir)
    for expected in (1, 2):
        await store.ensure()
        async with connect(store.url) as client:
            assert expected == await client.incr("starts")
        await store.stop()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
async def test_second_relay_takes_over(data_dir: Path, start: Start, ending: signal.Signals) -> None:
    """However the owner ends, a second relay goes on with a server of its own and every acknowledged write."""
    owner = start(data_dir)
    pid, attached = said(owner)
    assert attached == "False"
    async with embedded(data_dir) as second:
        assert second.attached
        keeper = asyncio.create_task(second.keep())
        async with connect(second.url) as client:
            await client.set("k", "v")
            owner.send_signal(ending)
            assert (-signal.SIGKILL if ending is signal.SIGKILL else 0) == owner.wait(10)
            await wait_until(lambda: second.pid is not None and not second.attached)
            await wait_until(lambda: has_value(client, "k", b"v"))
        assert second.pid != int(pid)
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
    assert is_free(data_dir)


async def has_value(client: Redis, key: str, value: bytes) -> bool:
    """Whether the server answers and has it."""
    try:
        return bool(await client.get(key) == value)
    except StoreConnectionError:
        return False


async def test_killed_owner_takes_its_server_along(data_dir: Path, start: Start) -> None:
    """After SIGKILL of the only relay no process stays behind, where the system has a parent-death signal."""
    owner = start(data_dir)
    said(owner)
    owner.kill()
    if sys.platform == "linux":
        await wait_until(lambda: is_free(data_dir))
    async with embedded(data_dir) as store:
        assert store.attached == (sys.platform != "linux")


async def test_orphan_is_reused_and_cleaned_up(data_dir: Path) -> None:
    """A server that outlived its relay is attached to, with its data, and stopped by the last one that leaves."""
    maker = await asyncio.create_subprocess_exec(sys.executable, "-c", ORPHAN_MAKER, str(data_dir))
    assert await maker.wait() == 9
    orphan = server_pid(data_dir)
    async with embedded(data_dir) as store, connect(store.url) as client:
        info = await client.info("server")
        assert (True, orphan) == (store.attached, info["process_id"])
    assert is_free(data_dir)


async def test_simultaneous_starts_give_one_server(data_dir: Path, start: Start) -> None:
    """Of relays that start at once on one directory, one starts a server and all others attach to it."""
    relays = [start(data_dir) for _ in range(4)]
    lines = [said(relay) for relay in relays]
    pids = [pid for pid, attached in lines if attached == "False"]
    assert [str(server_pid(data_dir))] == pids
    assert sorted(lines) == sorted([[*pids, "False"], *[["None", "True"]] * 3])
