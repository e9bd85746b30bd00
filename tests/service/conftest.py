"""Fixtures of the loops' tests."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from relay.dispatcher.lane import Lane
from relay.store import Store
from tests.helpers import ValkeyProcess, free_port
from tests.service.polling import PollRig, polling
from tests.service.rig import Rig, rigged


@pytest.fixture
async def rig(valkey_server: str, redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """Provide subscribers and replicas with quick leases; at the end nothing may be lost."""
    monkeypatch.setattr("relay.leases.TICK_S", 0.05)
    monkeypatch.setattr("relay.dispatcher.tail.BLOCK_MS", 200)
    monkeypatch.setattr("relay.dispatcher.service.STORE_PAUSE_S", 0.02)
    async with rigged(valkey_server, Store(redis_client)) as made:
        yield made


@pytest.fixture
async def polls(valkey_server: str, redis_client: Redis) -> AsyncIterator[PollRig]:  # noqa: ARG001 - it empties the store
    """Provide an upstream and holders; at the end the entities' histories must be whole."""
    async with polling(valkey_server) as made:
        yield made


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[ValkeyProcess, ValkeyProcess]]:
    """A primary and its replica."""
    port = free_port()
    primary = ValkeyProcess(tmp_path / "p", "--repl-diskless-sync-delay", "0", port=port)
    replica = ValkeyProcess(tmp_path / "r", "--replicaof", f"127.0.0.1 {port}", port=free_port())
    try:
        primary.wait_ready()
        replica.wait_ready()
        yield primary, replica
    finally:
        os.kill(replica.pid, signal.SIGCONT)
        replica.kill()
        primary.kill()


@pytest.fixture
def quick_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reader of the feed's end look up often, so that no test waits for it."""
    monkeypatch.setattr("relay.admin.feed_tail.BLOCK_MS", 50)
    monkeypatch.setattr("relay.admin.feed_tail.PAUSE_S", 0.01)
    monkeypatch.setattr("relay.admin.stream.STORE_PAUSE_S", 0.01)


@pytest.fixture(autouse=True)
def breaker_that_stays_closed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of something else see every attempt at once; a module that is about the breaker says `BREAKER = True`."""
    if not getattr(request.module, "BREAKER", False):
        monkeypatch.setattr("relay.core.breaker.OPEN_AFTER", 1_000_000)
        monkeypatch.setattr("relay.dispatcher.workers.TRIALS_PER_S", 1e9)
        monkeypatch.setattr(Lane, "cap", property(lambda lane: lane.receiver.subscriber.max_in_flight))
