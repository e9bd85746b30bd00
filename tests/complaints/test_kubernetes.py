"""What users of other webhook senders complain of in public issue trackers: life under an orchestrator.

hookdeck/outpost, frain-dev/convoy, svix/svix-webhooks. That manifests come with the relay (svix#1967) is tested in
tests/deploy/, that a wrong configuration does not end in silence (convoy#2251) in tests/system/test_configuration.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.helpers import free_port

LOOPS = (
    "relay.leases.Leases.run",
    "relay.poller.Poller.run",
    "relay.housekeeping.Housekeeping.run",
    "relay.dispatcher.tail.Tail.turn",
    "relay.dispatcher.holdings.Holdings.turn",
    "relay.dispatcher.retries.Retries.turn",
    "relay.dispatcher.commits.Commits.turn",
    "relay.dispatcher.notices.Notices.turn",
    "relay.store.embedded.EmbeddedStore.keep",
)

BROKEN = """
import pkgutil, sys
from relay.__main__ import main

async def fail(*_):
    raise RuntimeError("a bug")

for loop in sys.argv.pop(1).split(","):
    where, _, name = loop.rpartition(".")
    owner = pkgutil.resolve_name(where)
    original = getattr(owner, name)
    setattr(owner, name, fail)
    print(loop, main(), flush=True)
    setattr(owner, name, original)
"""
"""A relay with a loop that dies as soon as it runs, once for each loop; prints the exit codes."""


def _run(command: list[str], data_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run relays until they end by themselves."""
    covered = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    environment = {
        **covered,
        "RELAY_DATA_DIR": str(data_dir),
        "RELAY_LISTEN": f"127.0.0.1:{free_port()}",
        "RELAY_OPS_LISTEN": f"127.0.0.1:{free_port()}",
        "RELAY_SANDBOX__LISTEN": "127.0.0.1:0",
        "RELAY_LOG__FORMAT": "json",
    }
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_outpost_558_a_loop_that_dies_takes_the_process_with_it(tmp_path: Path) -> None:
    """outpost#558: a worker was gone, the probe said so, and nothing started it again.

    Here the process ends with code 1, whichever loop it is, so that whoever started it starts it again, and not
    without a line that says why (convoy#2251).
    """
    result = _run(["-c", BROKEN, ",".join(LOOPS), "run", "--sandbox"], tmp_path / "data")
    codes = dict(line.split() for line in result.stdout.splitlines() if line.startswith("relay."))
    assert codes == dict.fromkeys(LOOPS, "1"), result.stderr[-2000:]
    died = [json.loads(line) for line in result.stderr.splitlines() if '"relay.loop_died"' in line]
    assert len(died) == len(LOOPS)
    assert all("a bug" in json.dumps(one) for one in died)
