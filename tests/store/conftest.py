"""Fixtures for the embedded store: its directory, and other relay processes on it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers import Start, is_free, server_pid

RELAY = """
import asyncio, signal, sys
from pathlib import Path
from relay.store.embedded import EmbeddedStore

async def main():
    store = EmbeddedStore(Path(sys.argv[1]))
    await store.ensure()
    leave = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
    print(store.pid, store.attached, flush=True)
    await leave.wait()
    await store.stop()

asyncio.run(main())
"""
"""A relay as far as its store goes: SIGTERM makes it leave cleanly."""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory that does not exist yet; no server of it outlives the test."""
    directory = tmp_path / "d"
    yield directory
    if (directory / "valkey.lock").exists() and not is_free(directory):
        with suppress(ProcessLookupError):
            os.kill(server_pid(directory), signal.SIGKILL)


@pytest.fixture
def made_dir(data_dir: Path) -> Path:
    """A data directory that exists already."""
    data_dir.mkdir()
    return data_dir


@pytest.fixture
def start() -> Iterator[Start]:
    """Start other relays; each is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def run(directory: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", RELAY, str(directory)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for relay in started:
        relay.kill()
        relay.communicate()
