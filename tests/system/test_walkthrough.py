"""What the README and the relay's own greeting tell a newcomer to do, done."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import free_port, wait_until
from tests.system.relay_process import COVERED, RelayProcess, relay


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """`relay listen` as a process of its own: its port and what it prints."""
    port, output = free_port(), tmp_path / "heard"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "relay", "listen", "--port", str(port)],
            env={**COVERED, "RELAY_DATA_DIR": str(tmp_path / "data")},
            stdout=out,
            stderr=out,
        )
    yield port, output
    process.terminate()
    assert process.wait(10) == 0


async def test_the_pasted_lines_bring_verified_webhooks_within_seconds(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The greeting's curl line registers the receiver, and labs and sessions of the sandbox arrive verified."""
    async with relay(tmp_path / "data", "--sandbox") as process:
        port, heard = request.getfixturevalue("listener")
        await wait_until(lambda: "listening" in heard.read_text())
        line = _curl_line(process).replace("127.0.0.1:9000", f"127.0.0.1:{port}")
        shell = await asyncio.create_subprocess_shell(line, stdout=asyncio.subprocess.PIPE)
        answer, _ = await shell.communicate()
        assert b'"secret":"whsec_' in answer
        await wait_until(lambda: {"lab.", "session."} <= _families(heard), 20, what="labs and sessions arrive")
        text = heard.read_text()
    assert "NOT VERIFIED" not in text
    ids = re.findall(r"evt_\w+", text)
    assert len(ids) == len(set(ids))


def _families(heard: Path) -> set[str]:
    """Kinds of events that arrived verified."""
    return set(re.findall(r"verified ✓  (lab\.|session\.)", heard.read_text()))


def _curl_line(process: RelayProcess) -> str:
    """The greeting's command, as one would copy it."""
    printed = process.output.read_text()
    found = re.search(r"curl -X POST(?:[^\n]*\\\n)+[^\n]*", printed)
    assert found, printed
    return found.group()
