"""`relay listen` as a process: how it ends, and what it leaves on the terminal."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from relay.__main__ import main
from tests.helpers import free_port, wait_until
from tests.system.relay_process import COVERED

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PAYLOAD = b'{"type": "lab.completed", "data": {}}'


@contextmanager
def running(directory: Path, *words: str, out: int = subprocess.PIPE) -> Iterator["subprocess.Popen[str]"]:
    """Run a command with a terminal's environment, and no sandbox in its directory."""
    environment = {**COVERED, "RELAY_DATA_DIR": str(directory / "data"), "TERM": "xterm", "NO_COLOR": ""}
    command = [sys.executable, "-m", "relay", *words]
    with subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def listening(
    directory: Path, *words: str, out: int = subprocess.PIPE
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run `relay listen` on a free port; yields it and its URL."""
    port = free_port()
    with running(directory, "listen", "--port", str(port), *words, out=out) as process:
        yield process, f"http://127.0.0.1:{port}/"


async def post(url: str) -> int:
    """Send a webhook, as soon as somebody listens."""
    status = 0

    async def sent() -> bool:
        nonlocal status
        try:
            async with aiohttp.ClientSession() as session, session.post(url, data=PAYLOAD) as answer:
                status = answer.status
        except aiohttp.ClientConnectorError:
            return False
        return True

    await wait_until(sent, 20, what="it listens")
    return status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_is_quiet_and_leaves_a_summary(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0, lines on stdout, and one line about them on stderr; no traceback."""
    with listening(tmp_path, "--json", "--delay", "60") as (process, url):
        answer = asyncio.create_task(post(url))
        assert process.stdout
        lines = [json.loads(await asyncio.to_thread(process.stdout.readline)) for _ in range(2)]
        process.send_signal(number)
        _, err = await asyncio.to_thread(process.communicate)
        assert await answer == 204
    assert process.returncode == 0
    assert lines[1]["type"] == "lab.completed"
    assert err == "relay: 1 webhook: 1 not checked\n"


async def test_it_ends_when_nobody_reads_it_any_more(tmp_path: Path) -> None:
    """`relay listen | head -2` ends with the next webhook, without a traceback."""
    with listening(tmp_path) as (process, url):
        assert await post(url) == 204
        assert process.stdout
        process.stdout.close()
        assert await post(url) == 204
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert process.stderr
        assert process.stderr.read() == "relay: 2 webhooks: 2 not checked\n"


async def test_a_table_that_nobody_reads_to_its_end_is_no_success(tmp_path: Path) -> None:
    """`relay conformance … | head -1` ends with exit code 1, without a traceback."""
    with listening(tmp_path, "--secret", SECRET, "--delay", "0.1") as (_, url):
        await post(url)
        with running(tmp_path, "conformance", url, "--secret", SECRET) as process:
            assert process.stdout
            assert url in await asyncio.to_thread(process.stdout.readline)
            process.stdout.close()
            assert process.stderr
            assert await asyncio.to_thread(process.stderr.read) == ""
            assert process.wait(20) == 1


async def test_a_terminal_gets_colours(tmp_path: Path) -> None:
    """The verdict stands out."""
    ours, theirs = pty.openpty()
    with listening(tmp_path, out=theirs) as (_, url):
        os.close(theirs)
        await post(url)
        seen = b""
        while b"lab.completed" not in seen:
            seen += await asyncio.to_thread(os.read, ours, 4096)
    os.close(ours)
    assert b"\x1b[33mnot checked\x1b[0m" in seen


@pytest.mark.parametrize(
    "words",
    [
        ("--fail-rate", "2"),
        ("--fail-rate", "nan"),
        ("--delay", "-1"),
        ("--status", "99"),
        ("--status", "500", "--forward", "http://127.0.0.1:1/"),
        ("--forward", "localhost:3000"),
        ("--secret", "whsec_hunter2"),
    ],
)
def test_what_cannot_be_meant_ends_with_exit_code_2(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong is said, and no secret repeated."""
    monkeypatch.setenv("RELAY_DATA_DIR", str(tmp_path))
    try:
        code: object = main(["listen", "--port", "0", *words])
    except SystemExit as ended:  # argparse's way
        code = ended.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err
    assert "hunter2" not in err
