"""Fixtures of the complaints' tests: the loops' rig, a store that a test may stop, upstreams for processes."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay.store import Store
from relay.store.connect import connect
from tests.helpers import ValkeyProcess
from tests.service.conftest import breaker_that_stays_closed, polls, rig
from tests.service.rig import Rig, rigged
from tests.system.conftest import receiver, settings, upstream

__all__ = ["breaker_that_stays_closed", "polls", "receiver", "rig", "settings", "upstream"]

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class MortalStore:
    """A server of its own that can be killed, and started again with what it had or without."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = ValkeyProcess(directory, *DURABLE)
        self._process.wait_ready()
        self.url = self._process.url

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()

    def start(self, *, empty: bool = False) -> None:
        """Start it again; `empty` is a server that had no disk of its own, such as a pod that was replaced."""
        if empty:
            shutil.rmtree(self._directory)
        self._process = ValkeyProcess(self._directory, *DURABLE)
        self._process.wait_ready()


@pytest.fixture
def mortal_store() -> Iterator[MortalStore]:
    """A store of this test alone."""
    directory = Path(tempfile.mkdtemp(prefix="rly"))  # a short path: it is a socket's address
    store = MortalStore(directory)
    yield store
    store.kill()
    shutil.rmtree(directory)


@pytest.fixture
async def mortal_rig(mortal_store: MortalStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """Subscribers and replicas with quick leases on the mortal store; at the end nothing may be lost."""
    monkeypatch.setattr("relay.leases.TICK_S", 0.05)
    monkeypatch.setattr("relay.dispatcher.tail.BLOCK_MS", 200)
    monkeypatch.setattr("relay.dispatcher.service.STORE_PAUSE_S", 0.02)
    async with connect(mortal_store.url) as client, rigged(mortal_store.url, Store(client)) as made:
        yield made
