"""The sandbox and a real relay one after the other in one directory, and the commands around it."""

import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from relay.sandbox import Sandbox
from tests.helpers import free_port
from tests.system.receiver import Receiver
from tests.system.relay_process import COVERED, relay

SANDBOX = {"RELAY_SANDBOX__LISTEN": "127.0.0.1:0"}


async def test_the_sandbox_shares_nothing_with_a_real_relay_on_the_same_directory(
    tmp_path: Path, upstream: Sandbox, settings: dict[str, Any]
) -> None:
    """The real relay begins with a clean baseline after it, and no simulated event ever reaches a real subscriber."""
    data_dir = tmp_path / "data"
    upstream.lod.put(1, CompletionStatus=3)
    async with Receiver() as simulated, Receiver() as real:
        async with relay(data_dir, "--sandbox", settings=SANDBOX) as process:
            await process.subscribe(simulated.url)
            await simulated.wait_for(3)
            assert await process.terminate() == 0
        async with relay(data_dir, settings=settings) as process:
            await process.polled("lod", "learnosity")
            assert (await process.call("GET", "/v1/subscribers"))["data"] == []
            assert (await process.call("GET", "/v1/events"))["data"] == []
            await process.subscribe(real.url)
            upstream.lod.put(1, CompletionStatus=4)
            await real.wait_for(1)
            assert await process.terminate() == 0
        seen = len(simulated.events)
        async with relay(data_dir, "--sandbox", settings=SANDBOX) as process:
            await simulated.wait_for(seen + 3)
            assert await process.terminate() == 0
        assert list(real.histories()) == [("lod", "1")]


def test_the_sandbox_alone_prints_what_a_relay_needs() -> None:
    """Below its addresses stands a block of TOML that can be pasted as it is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "relay", "sandbox", "--port", "0"], env=COVERED, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    printed = ""
    while "domain" not in printed or "progress" not in printed.rpartition("domain")[2]:
        line = process.stdout.readline()
        assert line
        printed += line
    process.send_signal(signal.SIGTERM)
    printed += process.communicate(timeout=10)[0]
    sources = tomllib.loads(printed[printed.index("[sources.") :])["sources"]
    assert sources["lod"].keys() >= {"base_url", "api_key"}
    assert sources["learnosity"].keys() >= {"base_url", "consumer_key", "consumer_secret", "domain", "version"}


def _listen(data_dir: Path, *arguments: str) -> str:
    """What `relay listen` says when it cannot."""
    variables = {**COVERED, "RELAY_DATA_DIR": str(data_dir)}
    command = [sys.executable, "-m", "relay", "listen", *arguments]
    result = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 2
    return result.stderr


def test_a_refused_receiver_is_told_what_to_change(tmp_path: Path) -> None:
    """A port in use: another port. An address that this machine has not: another address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "Address already in use); try another --port" in _listen(tmp_path, "--port", str(taken.getsockname()[1]))
    said = _listen(tmp_path, "--host", "192.0.2.1", "--port", str(free_port()))
    assert "try another --host" in said
    assert len(said.splitlines()) == 1
