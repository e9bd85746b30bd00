"""The receivers that the README tells a subscriber to write, run as they stand there and examined."""

import argparse
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from relay import conformance
from relay.conformance.checks import CHECKS
from relay.terminal import plain
from tests.helpers import free_port, wait_until

README = Path(__file__).parents[2] / "README.md"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PACKAGE = "standardwebhooks@1.0.0"
START_S = 20.0
INSTALL_S = 90.0


def code(language: str, port: int) -> str:
    """The README's block, with a secret and a port of our own."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    [block] = [block for block in blocks if "standardwebhooks" in block]
    assert block.count("whsec_…") == 1
    assert block.count("9000") == 1
    return str(block).replace("whsec_…", SECRET).replace("9000", str(port))


@contextmanager
def running(command: Sequence[str], directory: Path) -> Iterator[Path]:
    """Run a receiver for the length of a block; yields what it prints."""
    output = directory / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield output
        assert process.poll() is None, output.read_text("utf-8")
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def conformance_of(url: str) -> dict[str, Any]:
    """What `relay conformance` says of it."""
    parser, out = argparse.ArgumentParser(), io.StringIO()
    conformance.add_arguments(parser)
    await conformance.run(parser.parse_args([url, "--secret", SECRET, "--json"]), out, out, plain)
    told: dict[str, Any] = json.loads(out.getvalue())
    return told


async def examine(command: Sequence[str], directory: Path, port: int) -> None:
    """Every row must pass, and the receiver must have printed what it received."""
    with running(command, directory) as output:
        await wait_until(lambda: listens(port), START_S, what="the receiver listens")
        told = await conformance_of(f"http://127.0.0.1:{port}/")
        assert "lab.completed 349744" in output.read_text("utf-8")
    assert {row["name"]: row["seen"] for row in told["checks"] if row["verdict"] != "pass"} == {}
    assert len(told["checks"]) > len(CHECKS)


async def test_the_python_receiver_conforms(tmp_path: Path) -> None:
    """Copied from the README, it passes every check."""
    port = free_port()
    (tmp_path / "receiver.py").write_text(code("python", port), "utf-8")
    await examine([sys.executable, "receiver.py"], tmp_path, port)


async def test_the_node_receiver_conforms(tmp_path: Path) -> None:
    """Copied from the README and given the package that it names, it passes every check."""
    port = free_port()
    (tmp_path / "receiver.mjs").write_text(code("javascript", port), "utf-8")
    (tmp_path / "package.json").write_text("{}", "utf-8")
    if reason := _why_not_installed(tmp_path):
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    await examine(["node", "receiver.mjs"], tmp_path, port)


def _why_not_installed(directory: Path) -> str | None:
    """Install the package; the reason in one line if this machine cannot."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "node and npm are not installed, so the Node receiver was not run"
    patience = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000")
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", *patience, PACKAGE]
    try:
        subprocess.run(command, cwd=directory, capture_output=True, timeout=INSTALL_S, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return f"npm cannot install {PACKAGE} here, so the Node receiver was not run"
    return None
