"""Fixtures of every tier: one real Valkey server per test process, and a client on an empty database."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from relay.store.connect import connect
from tests.helpers import ValkeyProcess


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[str]:
    """URL of a real server that keeps nothing on disk; synchronous, as it outlives every event loop."""
    directory = Path(tempfile.mkdtemp(prefix="rly"))  # a short path: it is a socket's address
    server = ValkeyProcess(directory)
    try:
        server.wait_ready()
        yield server.url
    finally:
        server.kill()
        shutil.rmtree(directory)


@pytest.fixture
async def redis_client(valkey_server: str) -> AsyncIterator[Redis]:
    """Client as production makes it, on an empty database."""
    async with connect(valkey_server) as client:
        await client.flushall()
        yield client
