"""What the collector is told: in a process of its own, since it holds for all of a process."""

import subprocess
import sys


def test_what_is_loaded_is_never_looked_at_again() -> None:
    """After start-up a full run finds only what has come since: the code itself would cost tens of milliseconds."""
    script = (
        "import gc; from relay import app, garbage; before = len(gc.get_objects()); garbage.settle();"
        "print(before, len(gc.get_objects()))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, after = map(int, run.stdout.split())
    assert after * 100 < before
