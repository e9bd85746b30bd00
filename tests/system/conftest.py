"""Upstreams for system tests: one sandbox that the test controls, and the settings that point a relay at it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from relay.sandbox import (
    LEARNOSITY_CONSUMER_KEY,
    LEARNOSITY_CONSUMER_SECRET,
    LEARNOSITY_DOMAIN,
    LEARNOSITY_VERSION,
    LOD_API_KEY,
    Sandbox,
)
from tests.system.receiver import Receiver


@pytest.fixture
async def upstream() -> AsyncIterator[Sandbox]:
    """Both simulated upstreams, still."""
    sandbox = await Sandbox.start()
    sandbox.lod.selection = "any_state_change"
    yield sandbox
    await sandbox.stop()


@pytest.fixture
def settings(upstream: Sandbox) -> dict[str, Any]:
    """Variables for a relay that polls them often and may send to this machine."""
    return {
        "RELAY_EGRESS__ALLOW_CIDRS": ["127.0.0.0/8"],
        "RELAY_EGRESS__ALLOW_HTTP": "true",
        "RELAY_RETRY__SCHEDULE_S": [0.2, 0.4, 0.8],
        "RELAY_SOURCES__LOD__KIND": "lod",
        "RELAY_SOURCES__LOD__BASE_URL": upstream.lod_url,
        "RELAY_SOURCES__LOD__API_KEY": LOD_API_KEY,
        "RELAY_SOURCES__LOD__INTERVAL_S": "0.5",
        "RELAY_SOURCES__LEARNOSITY__KIND": "learnosity",
        "RELAY_SOURCES__LEARNOSITY__BASE_URL": upstream.learnosity_url,
        "RELAY_SOURCES__LEARNOSITY__VERSION": LEARNOSITY_VERSION,
        "RELAY_SOURCES__LEARNOSITY__CONSUMER_KEY": LEARNOSITY_CONSUMER_KEY,
        "RELAY_SOURCES__LEARNOSITY__CONSUMER_SECRET": LEARNOSITY_CONSUMER_SECRET,
        "RELAY_SOURCES__LEARNOSITY__DOMAIN": LEARNOSITY_DOMAIN,
        "RELAY_SOURCES__LEARNOSITY__INTERVAL_S": "0.5",
        "RELAY_SOURCES__LEARNOSITY__SETTLE_S": "0",
    }


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A healthy subscriber."""
    async with Receiver() as one:
        yield one
