"""What happens before a relay runs: limits, addresses, and the sandbox that stands in for the upstreams."""

import asyncio
import errno
import os
import random
import resource
import socket
import tomllib

import pytest
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from relay import app
from relay.leases import Leases
from relay.settings import Address, Settings
from relay.store import Store
from relay.telemetry import Metrics
from relay.upstreams import sandbox_toml, sandboxed, start_sandbox, why_not
from relay.wiring import _Basis, _ops
from tests.service.upstreams import FakeClock

REDIS = {
    "redis_url": "redis://127.0.0.1:9",
    "admin_tokens": ["0123456789abcdef"],
    "encryption_keys": ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="],
}


@pytest.mark.parametrize("given", [{}, {"namespace": "n" * 32}, REDIS])
async def test_the_sandbox_has_a_namespace_of_its_own(given: dict[str, object]) -> None:
    """Whichever store it is, and however long the name: no key is shared with a real relay."""
    settings = Settings.model_validate({**given, "sandbox": {"listen": "127.0.0.1:0"}})
    async with sandboxed(settings) as simulated:
        assert simulated.namespace == f"{settings.namespace}-sandbox"
        assert simulated.sources.keys() == {"lod", "learnosity"}


async def test_the_printed_sources_are_settings() -> None:
    """What `relay sandbox` prints is a settings file that polls it."""
    sandbox = await start_sandbox(Address(host="127.0.0.1", port=0))
    try:
        settings = Settings.model_validate(tomllib.loads(sandbox_toml(sandbox)))
    finally:
        await sandbox.stop()
    assert settings.sources["lod"].base_url == sandbox.lod_url
    assert settings.sources["learnosity"].base_url == sandbox.learnosity_url


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((1024, 524_288), [(65_536, 524_288)]),
        ((256, resource.RLIM_INFINITY), [(65_536, resource.RLIM_INFINITY)]),
        ((1024, 4096), [(4096, 4096)]),
        ((100_000, 200_000), []),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), []),
    ],
)
def test_the_descriptor_limit_is_raised_never_lowered(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], expected: list[tuple[int, int]]
) -> None:
    """Up to the hard limit and 65,536; a limit that is higher or infinite stays."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: asked.append(wanted))
    app._raise_descriptor_limit()
    assert asked == expected


async def test_readiness_does_not_wait_for_a_silent_store(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe is answered in time, with the reason, though the store's answer never comes."""
    store = Store(redis_client)
    basis = _Basis(Settings(), (), store, str, FakeClock(), Metrics(), random.Random(1))
    leases = Leases(store.leases, basis.clock, basis.metrics, owner="a", roles="deliver", sources=(), shards=())
    async with TestClient(TestServer(_ops(basis, leases, asyncio.Event()))) as client:
        assert (await client.get("/readyz")).status == 200
        monkeypatch.setattr(redis_client, "ping", asyncio.Event().wait)
        monkeypatch.setattr("relay.wiring.PING_S", 0.02)
        answer = await client.get("/readyz")
        assert answer.status == 503
        assert "the store does not answer (TimeoutError)" in await answer.text()


def test_a_refused_address_is_told_in_the_systems_words() -> None:
    """Without what asyncio puts around them; a name that does not resolve has words of its own."""
    assert why_not(OSError(errno.EADDRINUSE, "error while attempting to bind on …")) == os.strerror(errno.EADDRINUSE)
    assert why_not(socket.gaierror(socket.EAI_NONAME, "Name or service not known")) == "Name or service not known"
    assert why_not(OSError("could not bind on any address")) == "no such address"
