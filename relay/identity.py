"""What a fresh installation makes for itself: an admin token and an encryption key, kept in the data directory."""

import base64
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from relay.core.errors import ConfigError
from relay.core.keyring import KEY_BYTES
from relay.core.signing import format_secret

TOKEN_FILE = "admin-token"  # noqa: S105 - the file's name
KEY_FILE = "encryption-key"
SANDBOX_SECRET_FILE = "sandbox-secret"  # noqa: S105 - the file's name
SECRET_BYTES = 32


def token_file(data_dir: Path) -> Path:
    """Where the generated admin token is."""
    return data_dir / TOKEN_FILE


def kept_token(data_dir: Path) -> str:
    """The generated admin token, made at the first start."""
    return _kept(token_file(data_dir), lambda: secrets.token_urlsafe(32))


def kept_key(data_dir: Path) -> bytes:
    """The generated encryption key, made at the first start."""
    path = data_dir / KEY_FILE
    text = _kept(path, lambda: base64.b64encode(os.urandom(KEY_BYTES)).decode())
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path} does not hold a base64 key of {KEY_BYTES} bytes; restore it from a backup")
    return key


def new_secret() -> str:
    """A fresh signing secret for a subscriber."""
    return format_secret(os.urandom(SECRET_BYTES))


def sandbox_secret(data_dir: Path) -> str:
    """The signing secret that subscribers get in the sandbox, so that `relay listen` can verify without asking.

    The encryption key lies in the same directory, so this file gives nothing away that was not there before.
    """
    return _kept(sandbox_secret_file(data_dir), new_secret)


def sandbox_secret_file(data_dir: Path) -> Path:
    """Where it is kept."""
    return data_dir / SANDBOX_SECRET_FILE


def owner_name() -> str:
    """Name of this process among the replicas: host, process id, and something that no other start has."""
    host = "".join(char if char.isalnum() or char in ".-" else "-" for char in socket.gethostname())
    return f"{host}/{os.getpid()}/{secrets.token_hex(4)}"


def dead_neighbours(owners: Sequence[str]) -> list[str]:
    """Those replicas of this host whose process is gone, so that nobody need wait for their leases to end."""
    here = owner_name().split("/")[0]
    return [owner for owner in owners if owner.split("/")[0] == here and not _is_alive(owner.split("/")[1])]


def _is_alive(pid: str) -> bool:
    if pid == str(os.getpid()):
        return False  # this process has not joined yet: its namesake is a predecessor (in a container both are 1)
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return True


def _kept(path: Path, make: Callable[[], str]) -> str:
    """Read a private file, or make it; of two processes that start at once, both read what the first one wrote."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.touch(mode=0o600)
            draft.write_text(make() + "\n")
            _sync(draft)
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)  # all or nothing, and never over an existing file
            draft.unlink()
            _sync(path.parent)  # what is sealed with a key must not outlive it, not even a loss of power
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read or made ({error}); check RELAY_DATA_DIR") from None
    if not text:
        raise ConfigError(f"{path} is empty: restore it, or remove it to have a new one made")
    return text


def _sync(path: Path) -> None:
    """Wait until a file's content, or a directory's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
