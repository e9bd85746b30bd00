"""Fixtures of the console's tests: a real Chromium on the real admin API, or on a whole relay.

The browser is started once per test process, so all of them run on one event loop, which outlives each test.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect
from redis.asyncio import Redis

from relay.store.connect import connect
from tests.browser.chromium import ARGUMENTS, TIMEOUT_MS, Visits, chromium
from tests.service.admin_api import Api, admin_api
from tests.system.relay_process import RelayProcess, relay

expect.set_options(timeout=TIMEOUT_MS)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Provide a Chromium with a fresh profile."""
    executable = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visits(browser: Browser) -> AsyncIterator[Visits]:
    """Provide watched pages; at the end nothing may have gone wrong on any of them."""
    visits = Visits(browser)
    yield visits
    assert visits.faults == []


@pytest_asyncio.fixture(loop_scope="session")
async def redis_client(valkey_server: str) -> AsyncIterator[Redis]:
    """Client on an empty database, on the loop of these tests."""
    async with connect(valkey_server) as client:
        await client.flushall()
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def api(redis_client: Redis, visits: Visits) -> AsyncIterator[Api]:
    """Provide the API with the console, at the time that it is, and a hand behind the scenes."""
    async with admin_api(redis_client) as served:
        served.clock.at = datetime.now(UTC)
        yield served
        await visits.close()  # before what they look at goes


@pytest_asyncio.fixture(loop_scope="session")
async def sandbox(tmp_path: Path, visits: Visits) -> AsyncIterator[RelayProcess]:
    """Provide a whole relay in which labs and sessions come and go, with quick retries."""
    settings = {"RELAY_SANDBOX__LISTEN": "127.0.0.1:0", "RELAY_RETRY__SCHEDULE_S": [0.1]}
    async with relay(tmp_path / "data", "--sandbox", settings=settings) as process:
        yield process
        await visits.close()
