"""What a fresh installation makes for itself, is durable and private, and is not taken blindly from others."""

import os
import stat
from pathlib import Path

import pytest

from relay import identity
from relay.core.errors import ConfigError
from relay.settings import Settings
from relay.wiring import _tokens


def test_a_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    """The second start reads what the first one wrote, in a file that only its owner can read; no draft stays."""
    data_dir = tmp_path / "data"
    token = identity.kept_token(data_dir)
    assert identity.kept_token(data_dir) == token
    assert [path.name for path in data_dir.iterdir()] == ["admin-token"]
    assert stat.S_IMODE(identity.token_file(data_dir).stat().st_mode) == 0o600


def test_a_secret_is_on_the_disk_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is synced before the file has its name, and the directory after that."""
    synced: list[tuple[bool, bool]] = []

    def fsync(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((is_directory, (tmp_path / "encryption-key").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    identity.kept_key(tmp_path)
    identity.kept_key(tmp_path)
    assert synced == [(False, False), (True, True)]


@pytest.mark.parametrize("text", ["short", "fifteen-letters", "sixteen letters and a space"])
def test_a_token_written_by_hand_obeys_the_rule_of_the_setting(tmp_path: Path, text: str) -> None:
    """A file is no way around the length that RELAY_ADMIN_TOKENS asks for; the message does not repeat the token."""
    identity.token_file(tmp_path).write_text(text + "\n")
    with pytest.raises(ConfigError, match="at least 16") as caught:
        _tokens(Settings(data_dir=tmp_path))
    assert str(identity.token_file(tmp_path)) in str(caught.value)
    assert text not in str(caught.value)


def test_a_good_token_written_by_hand_is_taken(tmp_path: Path) -> None:
    """Sixteen characters are enough."""
    identity.token_file(tmp_path).write_text("sixteen-letters!\n")
    assert _tokens(Settings(data_dir=tmp_path)) == ["sixteen-letters!"]
