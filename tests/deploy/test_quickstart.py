"""The quickstart as it would run: its Valkey configuration in a real server, its relay against that and the sandbox."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from relay.sandbox import Sandbox
from relay.store.connect import check_server, connect
from relay.store.process import find_binary
from tests.deploy.manifests import QUICKSTART, environment, mounted, pods, render
from tests.helpers import command, free_port, wait_until

START_S = 20.0
"""Patience with a process that starts while other tests use the same cores."""


@dataclass(frozen=True)
class Store:
    """A Valkey that runs with the rendered configuration."""

    port: int
    relay_root: Path
    """Where the relay's mounted files are; its `redis-url` names this server."""
    variables: dict[str, str]
    """The relay's environment, except for addresses."""
    admin_url: str

    @property
    def url(self) -> str:
        """What the relay is given."""
        return Path(self.variables["RELAY_REDIS_URL_FILE"]).read_text("utf-8")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Start the StatefulSet's command on a loopback port; only paths and the address are changed."""
    documents = render(QUICKSTART)
    templates = pods(documents)
    places = mounted(documents, templates["valkey"], tmp_path)
    [program, path] = templates["valkey"]["spec"]["containers"][0]["command"]
    assert program == "valkey-server"
    configuration, port, data = Path(f"{tmp_path}{path}"), free_port(), tmp_path / "data"
    data.mkdir()
    text = configuration.read_text("utf-8")
    for place in places:
        text = text.replace(f" {place}/", f" {tmp_path}{place}/")
    for given, here in ((" /data", f" {data}"), ("port 6379", f"port {port}"), ("bind * -::*", "bind 127.0.0.1")):
        assert given in text
        text = text.replace(given, here)
    configuration.write_text(text, "utf-8")
    with (tmp_path / "run/secrets/valkey/users.acl").open("a", encoding="utf-8") as users:
        users.write("\nuser test on nopass allkeys allcommands\n")  # to look from outside
    variables = environment(documents, templates["webhook-relay"], tmp_path)
    url = Path(variables["RELAY_REDIS_URL_FILE"])
    url.write_text(url.read_text("utf-8").replace("valkey:6379", f"127.0.0.1:{port}"), "utf-8")
    with (tmp_path / "valkey.log").open("wb") as log:
        process = subprocess.Popen([find_binary(), configuration], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    yield Store(port, tmp_path, variables, f"redis://test:any@127.0.0.1:{port}")
    process.kill()
    process.wait()
    assert b"FATAL" not in (tmp_path / "valkey.log").read_bytes()


async def accepts(store: Store) -> bool:
    """Whether the server listens."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", store.port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def onlooker(store: Store) -> AsyncIterator[Redis]:
    """A client that may do anything, once the server listens."""
    await wait_until(lambda: accepts(store), START_S)
    async with connect(store.admin_url) as client:
        yield client


async def test_store_of_the_quickstart_is_one_that_the_relay_trusts(store: Store) -> None:
    """The relay's own check finds nothing to refuse and nothing to warn of."""
    async with onlooker(store), connect(store.url) as client:
        assert await check_server(client, wait_replicas=0) == []


async def test_probe_may_ping_and_nothing_else(store: Store) -> None:
    """Without a password the store answers PING; no key can be read, nothing can be configured."""
    async with onlooker(store):
        reader, writer = await asyncio.open_connection("127.0.0.1", store.port)
        writer.write(b"PING\r\nGET {relay}:meta\r\nCONFIG GET dir\r\nFLUSHALL\r\n")
        assert await reader.readline() == b"+PONG\r\n"
        for _ in range(3):
            assert (await reader.readline()).startswith(b"-NOPERM")
        writer.close()


async def test_relays_user_is_kept_to_its_keys(store: Store) -> None:
    """The relay's password opens neither another application's keys nor the server's configuration."""
    async with onlooker(store), connect(store.url) as client:
        await client.set("{relay}:x", "1")
        forbidden = (
            ("SET", "other", "1"),
            ("FLUSHALL",),
            ("CONFIG", "SET", "dir", "x"),
            ("ACL", "LIST"),
            ("KEYS", "*"),
        )
        for line in forbidden:
            with pytest.raises(NoPermissionError):
                await command(client, *line)


@asynccontextmanager
async def receiver(seen: list[str]) -> AsyncIterator[str]:
    """A subscriber that notes the ids of the webhooks that it gets."""

    async def take(request: web.Request) -> web.Response:
        seen.append(request.headers["webhook-id"])
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def relay(store: Store, sandbox: Sandbox) -> AsyncIterator[tuple[str, str]]:
    """The Deployment's command and environment on loopback addresses; yields the URLs of the API and the ops port."""
    api, ops = free_port(), free_port()
    variables = {name: value.replace("http://sandbox:8090", sandbox.url) for name, value in store.variables.items()}
    variables |= {"RELAY_LISTEN": f"127.0.0.1:{api}", "RELAY_OPS_LISTEN": f"127.0.0.1:{ops}"}
    variables |= {f"RELAY_SOURCES__{name}__INTERVAL_S": "0.2" for name in ("LOD", "LEARNOSITY")}
    [container] = pods(render(QUICKSTART))["webhook-relay"]["spec"]["containers"]
    with (store.relay_root / "relay.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "relay", *container["args"], stdout=log, stderr=log, env=dict(os.environ) | variables
        )
    try:
        yield f"http://127.0.0.1:{api}", f"http://127.0.0.1:{ops}"
        process.terminate()
        assert await process.wait() == 0, (store.relay_root / "relay.log").read_text("utf-8")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def answers(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether a GET gives 200."""
    try:
        async with session.get(url) as response:
            return response.status == web.HTTPOk.status_code
    except aiohttp.ClientConnectionError:
        return False


async def test_relay_of_the_quickstart_delivers_what_the_sandbox_does(store: Store) -> None:
    """The pod's environment starts a relay that becomes ready, takes a subscriber with the demo token, and delivers.

    The store's ACL log stays empty: the documented user is enough for all of it.
    """
    seen: list[str] = []
    sandbox = await Sandbox.start(lively=True)
    try:
        async with (
            onlooker(store) as admin,
            receiver(seen) as url,
            aiohttp.ClientSession() as session,
            relay(store, sandbox) as (api, ops),
        ):
            await wait_until(lambda: answers(session, f"{ops}/readyz"), START_S)
            assert await answers(session, f"{ops}/healthz")
            body: dict[str, Any] = {"url": url, "event_types": ["*"]}
            bearer = {"Authorization": "Bearer demo-admin-token-replace-me"}
            async with session.post(f"{api}/v1/subscribers", json=body, headers=bearer) as response:
                assert response.status == web.HTTPCreated.status_code, await response.text()
            await wait_until(lambda: admin.xlen("{relay}:log") if seen else False, START_S, what="a webhook")
            assert await command(admin, "ACL", "LOG") == []
    finally:
        await sandbox.stop()
