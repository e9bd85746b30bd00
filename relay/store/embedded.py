"""The relay's own store: attach to the Valkey server of a data directory, or start one.

Invariants, each kept by a lock that the kernel frees when its holder dies:

- Two servers never share a directory: the server itself holds `valkey.lock`.
- No relay loses its server to another one's clean exit, and the last one out leaves no server behind: every relay
  holds `relays.lock` shared, and only who can have it exclusively stops the server.

A relay that dies of SIGKILL takes its server along (parent-death signal, Linux) or leaves an orphan (macOS) to
which the next start attaches. In both cases every acknowledged write is in the append-only file, fsynced.
"""

import asyncio
import contextlib
import fcntl
import os
import subprocess
import time
from pathlib import Path

from relay.store import process
from relay.store.process import Health, StoreUnavailableError

__all__ = ["EmbeddedStore", "StoreUnavailableError"]

POLL_S = 0.005
STOP_S = 10.0
FATAL = 1
"""Exit status of a server that cannot start; one that was killed meanwhile is simply started again."""


class EmbeddedStore:
    """A Valkey server that lives in `data_dir` and that several relays may share.

    `max_memory` is in the server's notation (`256mb`); it holds for a server that this process starts. A server
    that is silent for `patience_s` is given up; one that says that it loads its data is waited for.
    """

    def __init__(self, data_dir: Path, *, max_memory: str = "256mb", patience_s: float = 30.0) -> None:
        self._dir = data_dir.resolve()
        self._max_memory = max_memory
        self._patience_s = patience_s
        self._socket: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._presence: int | None = None  # the descriptor that holds relays.lock shared
        self._turn = asyncio.Lock()
        self.attached = False
        """Whether the server was started by another process (that may be gone)."""

    @property
    def url(self) -> str:
        """The server's `unix://` URL; known after the first `ensure`, and the same ever after."""
        return process.socket_url(self._known_socket())

    @property
    def pid(self) -> int | None:
        """The server's process id if this process started it."""
        return self._server.pid if self._server is not None else None

    async def ensure(self) -> None:
        """Make sure that a server answers: attach to a live one, or start one. Harmless to repeat.

        Raises `StoreUnavailableError`. To be called from the main thread, see `process.spawn`.
        """
        async with self._turn:
            try:
                self._prepare()
                await self._announce()
                await self._attach_or_start()
            except StoreUnavailableError:
                self._leave()
                raise
            except OSError as error:
                self._leave()
                raise StoreUnavailableError(
                    f"the embedded store cannot use the directory {self._dir}: {error.strerror}"
                ) from error

    async def keep(self) -> None:
        """Run for ever: whenever the server is gone, attach to its successor or start one.

        This is how a second relay takes over. Raises `StoreUnavailableError` if that is impossible.
        """
        while True:
            await self._until_gone()
            await self.ensure()

    async def stop(self) -> None:
        """Leave; stop the server too, unless another relay is attached to it.

        If one is, and this process started the server, the server ends with this process at the latest (Linux),
        and the other relay starts it again.
        """
        async with self._turn:
            if self._presence is None:
                return
            try:
                if _try_flock(self._presence, fcntl.LOCK_EX):
                    await self._stop_server()
            finally:
                self._leave()

    def _known_socket(self) -> Path:
        if self._socket is None:
            raise StoreUnavailableError("the embedded store was not started yet")
        return self._socket

    def _prepare(self) -> None:
        """Make the directory, private. One that exists keeps its mode: it may be shared; our files are private."""
        if self._dir.exists() and not self._dir.is_dir():
            raise StoreUnavailableError(f"{self._dir} is not a directory: RELAY_DATA_DIR must name one")
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._socket = process.socket_path(self._dir)

    async def _announce(self) -> None:
        """Hold `relays.lock` shared. A relay that is stopping the server has it exclusively, for some moments."""
        if self._presence is not None:
            return
        fd = _open_lock(self._dir / "relays.lock")
        try:
            await self._share(fd)
        except BaseException:
            os.close(fd)
            raise
        self._presence = fd

    def _leave(self) -> None:
        if self._presence is not None:
            os.close(self._presence)
            self._presence = None

    async def _share(self, fd: int) -> None:
        deadline = time.monotonic() + self._patience_s
        while not _try_flock(fd, fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                raise StoreUnavailableError(f"another relay has been stopping the server of {self._dir} for too long")
            await asyncio.sleep(POLL_S)

    async def _attach_or_start(self) -> None:
        started: subprocess.Popen[bytes] | None = None
        deadline = time.monotonic() + self._patience_s
        while (health := await process.probe(self._known_socket())) is not Health.READY:
            if health is Health.LOADING:
                deadline = time.monotonic() + self._patience_s
            elif not self._is_running():
                if started is not None and started.returncode == FATAL:
                    raise StoreUnavailableError(process.last_words(self._dir, process.find_binary(), self._log_start))
                self._server = started = self._try_start()
            if time.monotonic() > deadline:
                self._give_up()
            await asyncio.sleep(POLL_S)
        self.attached = not self._is_running()

    def _is_running(self) -> bool:
        """Whether the server that this process started runs; a dead one is reaped and forgotten."""
        if self._server is not None and self._server.poll() is not None:
            self._server = None
        return self._server is not None

    def _try_start(self) -> subprocess.Popen[bytes] | None:
        """Start a server if the directory is free; None if another process has it."""
        binary = process.find_binary()
        fd = _open_lock(self._dir / "valkey.lock")
        try:
            if not _try_flock(fd, fcntl.LOCK_EX):
                return None
            socket = self._known_socket()
            socket.unlink(missing_ok=True)  # nobody listens there: the lock is ours
            near = Path(socket.name) if socket.parent == self._dir else socket
            process.write_configuration(self._dir, near, self._max_memory)
            self._log_start = process.rotate_log(self._dir)
            return process.spawn(self._dir, binary, fd)
        finally:
            os.close(fd)  # the server has its own copy

    def _give_up(self) -> None:
        silent = f"on {self._socket} within {self._patience_s:g} s"
        if self._server is not None:
            self._server.kill()  # harmless to the data: what was acknowledged is fsynced
            self._server.wait()
            raise StoreUnavailableError(
                f"the embedded store was started, but did not answer {silent}; see {self._dir}/valkey.log"
            )
        holder = (self._dir / "valkey.lock").read_text(errors="replace").strip()
        raise StoreUnavailableError(
            f"{self._dir} is locked by another server (process {holder or 'unknown'}), "
            f"which did not answer {silent}: end that process, then start again"
        )

    async def _until_gone(self) -> None:
        """Return when the server closes a connection on which nothing is ever said, or cannot be reached."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(self._known_socket())
            try:
                while await reader.read(1024):
                    pass
            finally:
                writer.close()

    async def _stop_server(self) -> None:
        """Ask the server to exit and wait for it; nobody can attach meanwhile, as `relays.lock` is ours."""
        if self._is_running() and self._server is not None:
            self._server.terminate()
        else:
            await self._shut_down_orphan()
        deadline = time.monotonic() + STOP_S
        while self._is_running() or not self._is_free():
            if time.monotonic() > deadline:
                if self._server is None:
                    raise StoreUnavailableError(f"the server of {self._dir} does not stop")
                self._server.kill()  # harmless to the data: what was acknowledged is fsynced
            await asyncio.sleep(POLL_S)

    async def _shut_down_orphan(self) -> None:
        """Stop a server whose relay is dead, by a command: a process id might name somebody else by now."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(self._patience_s):
                await process.ask(self._known_socket(), b"SHUTDOWN\r\n")

    def _is_free(self) -> bool:
        try:
            fd = _open_lock(self._dir / "valkey.lock")
        except FileNotFoundError:  # somebody has removed the directory: nothing is left that a server could hold
            return True
        try:
            return _try_flock(fd, fcntl.LOCK_EX)
        finally:
            os.close(fd)


def _open_lock(path: Path) -> int:
    """Open a lock file, which is never deleted: two processes must not lock two files of one name."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
