"""From settings to sources: one line per kind, and the sandbox that stands in for both."""

import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator

import aiohttp

from relay.clock import Clock
from relay.core.errors import ConfigError
from relay.core.lab import LabFamily
from relay.core.session import SessionFamily
from relay.sandbox import (
    LEARNOSITY_CONSUMER_KEY,
    LEARNOSITY_CONSUMER_SECRET,
    LEARNOSITY_DOMAIN,
    LEARNOSITY_VERSION,
    LOD_API_KEY,
    Sandbox,
)
from relay.settings import Address, Settings
from relay.settings import LodSource as LodSettings
from relay.settings import Source as SourceSettings
from relay.sources.base import Source
from relay.sources.learnosity import LearnositySource
from relay.sources.lod import LodSource

SANDBOX_PORT = 8090
LOOPBACK = ("127.0.0.0/8", "::1/128")


def build_source(name: str, settings: SourceSettings, session: aiohttp.ClientSession, clock: Clock) -> Source:
    """One upstream, ready to be polled."""
    if isinstance(settings, LodSettings):
        return LodSource(
            name,
            family=LabFamily(progress=settings.progress),
            session=session,
            clock=clock,
            base_url=settings.base_url,
            api_key=settings.api_key.get_secret_value(),
            interval_s=settings.interval_s,
            overlap_s=settings.overlap_s,
            sweep_s=settings.sweep_s,
        )
    return LearnositySource(
        name,
        family=SessionFamily(progress=settings.progress),
        session=session,
        clock=clock,
        base_url=settings.base_url,
        version=settings.version,
        consumer_key=settings.consumer_key.get_secret_value(),
        consumer_secret=settings.consumer_secret.get_secret_value(),
        domain=settings.domain,
        interval_s=settings.interval_s,
        overlap_s=settings.overlap_s,
        settle_s=settings.settle_s,
        session_metadata=settings.session_metadata,
    )


@contextlib.asynccontextmanager
async def sandboxed(settings: Settings) -> AsyncIterator[Settings]:
    """Start the simulated upstreams and point the settings at them; subscribers may live on this machine.

    The sandbox has a namespace of its own: no simulated snapshot, event or subscriber is ever a real relay's on the
    same store, and no real one the sandbox's.
    """
    sandbox = await start_sandbox(settings.sandbox.listen)
    try:
        simulated = Settings.model_validate(
            {
                **settings.model_dump(),
                "sources": {**_sandbox_sources(sandbox), **settings.model_dump()["sources"]},
                "egress": {
                    **settings.egress.model_dump(),
                    "allow_http": True,
                    "allow_cidrs": [*LOOPBACK, *settings.egress.allow_cidrs],
                },
            }
        )
        yield simulated.model_copy(update={"namespace": f"{settings.namespace}-sandbox"})
    finally:
        await sandbox.stop()


async def start_sandbox(address: Address | None) -> Sandbox:
    """Listen there; by default on port 8090, or on a free one if that is taken.

    The population is a function of the time, so several sandboxes show the same labs and sessions.
    """
    host, port = (address.host, address.port) if address else ("127.0.0.1", SANDBOX_PORT)
    try:
        return await Sandbox.start(host, port, lively=True)
    except OSError as error:
        if address:
            raise ConfigError(
                f"the sandbox cannot listen on {address} ({why_not(error)}); choose another address"
                " (--host and --port, or RELAY_SANDBOX__LISTEN for `relay run --sandbox`)"
            ) from None
    return await Sandbox.start(host, 0, lively=True)


def why_not(error: OSError) -> str:
    """What the system says; asyncio wraps it in a sentence that repeats the address."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        return error.strerror or "no such address"
    return os.strerror(error.errno)


def sandbox_toml(sandbox: Sandbox) -> str:
    """The sources of a relay that polls this sandbox, as a settings file has them."""
    tables = []
    for name, values in _sandbox_sources(sandbox).items():
        lines = (f"{key} = {json.dumps(value)}" for key, value in values.items())
        tables.append("\n".join([f"[sources.{name}]", *lines]))
    return "\n\n".join(tables)


def _sandbox_sources(sandbox: Sandbox) -> dict[str, dict[str, object]]:
    return {
        "lod": {
            "kind": "lod",
            "base_url": sandbox.lod_url,
            "api_key": LOD_API_KEY,
            "interval_s": 2,
            "progress": True,
        },
        "learnosity": {
            "kind": "learnosity",
            "base_url": sandbox.learnosity_url,
            "version": LEARNOSITY_VERSION,
            "consumer_key": LEARNOSITY_CONSUMER_KEY,
            "consumer_secret": LEARNOSITY_CONSUMER_SECRET,
            "domain": LEARNOSITY_DOMAIN,
            "interval_s": 2,
            "settle_s": 1,
            "progress": True,
        },
    }
