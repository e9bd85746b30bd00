"""What tests of several tiers share: waiting for a condition, real Valkey processes, embedded stores."""

import asyncio
import fcntl
import inspect
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from relay.store.embedded import EmbeddedStore
from relay.store.process import find_binary

POLL_S = 0.005

Start = Callable[[Path], "subprocess.Popen[str]"]
"""Starts another relay process on a data directory."""

Predicate = Callable[[], object] | Callable[[], Awaitable[object]]


async def wait_until(predicate: Predicate, timeout_s: float = 5.0, *, what: str = "") -> None:
    """Return as soon as the predicate, synchronous or not, is true; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = predicate()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        if time.monotonic() > deadline:
            name = what or getattr(predicate, "__name__", repr(predicate))
            raise AssertionError(f"not within {timeout_s:g} s: {name}")
        await asyncio.sleep(POLL_S)


async def command(client: Redis, *words: str | int | bytes) -> Any:
    """Send a command that the library has no method for."""
    return await client.execute_command(*words)  # type: ignore[no-untyped-call]  # annotated nowhere


def free_port() -> int:
    """Find a TCP port on the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ValkeyProcess:
    """A bare server of the embedded store's binary, for tests that need one without the embedded store.

    It listens on `socket` (`port` 0), or on 127.0.0.1 at `port`, and keeps nothing on disk unless told.
    """

    def __init__(self, directory: Path, *arguments: str, port: int = 0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port
        self.socket = directory / "s"
        self.url = f"redis://127.0.0.1:{port}" if port else f"unix://{self.socket}"
        listen = ["--bind", "127.0.0.1"] if port else ["--unixsocket", "s"]
        memory = [] if "--sentinel" in arguments else ["--save", "", "--appendonly", "no"]
        with (directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(find_binary()), *memory, *arguments, "--port", str(port), *listen],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def wait_ready(self, timeout_s: float = 5.0) -> None:
        """Block until the server answers."""
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.socket.parent / "log").read_text()[-2000:])
            time.sleep(POLL_S)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        family = socket.AF_INET if self.port else socket.AF_UNIX
        with socket.socket(family) as connection:
            connection.settimeout(1)
            try:
                connection.connect(("127.0.0.1", self.port) if self.port else str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
            except OSError:
                return False


@asynccontextmanager
async def embedded(directory: Path, **options: Any) -> AsyncIterator[EmbeddedStore]:
    """A store that has been made sure of, and is left at the end."""
    store = EmbeddedStore(directory, **options)
    try:
        await store.ensure()
        yield store
    finally:
        await store.stop()


def is_free(directory: Path) -> bool:
    """Whether no server holds the directory."""
    with (directory / "valkey.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def server_pid(directory: Path) -> int:
    """The process that holds, or held last, the directory."""
    return int((directory / "valkey.lock").read_text())


def said(relay: "subprocess.Popen[str]") -> list[str]:
    """Wait for the other relay's line: its server's pid (or None), and whether it is attached."""
    assert relay.stdout is not None
    return relay.stdout.readline().split()
