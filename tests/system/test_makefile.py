"""`make clean` in a directory where a relay runs, and where none does."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _clean(directory: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", "clean", f"PYTHON={sys.executable}"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=30, check=False)


def test_clean_refuses_while_a_relay_runs(tmp_path: Path) -> None:
    """It removes nothing under a relay, says so in one line, and works once the relay is gone."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    data_dir = tmp_path / ".relay"
    assert _clean(tmp_path).returncode == 0
    data_dir.mkdir()
    with (data_dir / "relays.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        refused = _clean(tmp_path)
        assert refused.returncode != 0
        assert refused.stderr.splitlines()[0] == "a relay runs on .relay: stop it first"
        assert data_dir.exists()
    assert _clean(tmp_path).returncode == 0
    assert not data_dir.exists()
