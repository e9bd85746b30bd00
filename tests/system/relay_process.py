"""A real relay process for system tests: started, killed, asked over HTTP."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.helpers import free_port, wait_until

START_S = 60.0
COVERED = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}


class RelayProcess:
    """`python -m relay run` on a data directory, with ports of its own."""

    def __init__(self, data_dir: Path, *arguments: str, settings: Mapping[str, Any] | None = None) -> None:
        self.data_dir = data_dir
        self.port, self.ops_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = data_dir.parent / f"output-{self.port}"
        self._arguments = arguments
        self._environment = {
            **COVERED,
            "RELAY_DATA_DIR": str(data_dir),
            "RELAY_LISTEN": f"127.0.0.1:{self.port}",
            "RELAY_OPS_LISTEN": f"127.0.0.1:{self.ops_port}",
            **{
                name: value if isinstance(value, str) else json.dumps(value) for name, value in (settings or {}).items()
            },
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Start, and wait until it is ready."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
                [sys.executable, "-m", "relay", "run", *self._arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        await wait_until(self.is_ready, START_S, what=f"relay ready; see {self.output}")

    async def is_ready(self) -> bool:
        """Whether it says so itself."""
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(self.output.read_text()[-3000:])
        async with aiohttp.ClientSession() as session:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{self.ops_port}/readyz") as answer:
                    return answer.status == 200
        return False

    @property
    def running(self) -> bool:
        """Whether the process that was started last still runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def token(self) -> str:
        """The first admin token that it was given, or the one that it made."""
        given = self._environment.get("RELAY_ADMIN_TOKENS")
        return json.loads(given)[0] if given else (self.data_dir / "admin-token").read_text().strip()

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Ask the admin API; the answer must be a success."""
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.token}"}) as session,
            session.request(method, self.url + path, json=body) as answer,
        ):
            text = await answer.text()
            assert answer.status < 300, f"{method} {path}: {answer.status} {text}"
            return json.loads(text) if text else None

    async def subscribe(self, url: str, **fields: object) -> dict[str, Any]:
        """Register a subscriber."""
        created: dict[str, Any] = await self.call("POST", "/v1/subscribers", {"url": url, **fields})
        return created

    async def polled(self, *sources: str) -> None:
        """Wait until each of these sources has had a complete poll."""
        for source in sources:

            async def good(source: str = source) -> bool:
                return bool((await self.call("GET", f"/v1/sources/{source}"))["last_good_poll_at"])

            await wait_until(good, 15, what=f"{source} polled")

    async def kill(self) -> None:
        """As `kill -9` does."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """As an orchestrator does; returns the exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return await asyncio.to_thread(self._process.wait, 30)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            await self.kill()


@contextlib.asynccontextmanager
async def relay(
    data_dir: Path, *arguments: str, settings: Mapping[str, Any] | None = None
) -> AsyncIterator[RelayProcess]:
    """Run a relay for the length of a block."""
    async with RelayProcess(data_dir, *arguments, settings=settings) as process:
        yield process
