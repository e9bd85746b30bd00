"""The append-only file of a real server: what was erased is gone from it, also when a rewrite is cut off."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.store import Store
from relay.store.connect import connect
from relay.store.disk import PAUSE_MS, Disk
from relay.store.keys import Keys
from tests.helpers import ValkeyProcess, wait_until
from tests.store.minting import Minter

GONE = "learner-to-forget"
AOF = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def servers() -> Iterator[list[ValkeyProcess]]:
    """Servers on one directory, the latest of which runs."""
    started: list[ValkeyProcess] = []
    yield started
    for one in started:
        one.kill()


def started(servers: list[ValkeyProcess], directory: Path) -> ValkeyProcess:
    """Start a server that keeps everything on disk."""
    server = ValkeyProcess(directory, *AOF)
    servers.append(server)
    server.wait_ready()
    return server


def on_disk(directory: Path) -> bool:
    """Whether any file of the server holds the learner."""
    return any(GONE.encode() in path.read_bytes() for path in directory.rglob("*") if path.is_file())


async def emptied(directory: Path, disk: Disk) -> None:
    """Wait until the file is rid of the learner, as housekeeping does: by looking now and then."""

    async def gone() -> bool:
        await disk.turn()
        return not on_disk(directory)

    await wait_until(gone, 10)


async def erased(store: Store) -> None:
    """One event of a learner, erased from memory."""
    await Minter(store).mint(1, user=GONE)
    await store.erasure.erase(await store.log.before(None, 1))


async def test_a_payload_that_was_erased_leaves_the_file(servers: list[ValkeyProcess], tmp_path: Path) -> None:
    """The file is written anew at once; nothing more is written when that is known to have ended."""
    async with connect(started(servers, tmp_path / "d").url) as client:
        store = Store(client)
        await erased(store)
        assert on_disk(tmp_path / "d")
        assert await store.disk.want()
        await emptied(tmp_path / "d", store.disk)

        async def settled() -> bool:
            await store.disk.turn()
            erased_ms, rewritten_ms = await client.hmget(Keys().meta, ["erased", "rewritten"])
            return rewritten_ms is not None and int(rewritten_ms) >= int(erased_ms or 0)

        await wait_until(settled)
        size = (await client.info("persistence"))["aof_current_size"]
        assert await store.disk.turn()
        assert (await client.info("persistence"))["aof_current_size"] == size


async def test_a_rewrite_that_a_crash_has_cut_off_is_begun_again(servers: list[ValkeyProcess], tmp_path: Path) -> None:
    """The next server's file still holds it, and its record says that no rewrite of its own has ended."""
    server = started(servers, tmp_path / "d")
    async with connect(server.url) as client:
        await erased(Store(client))
        await client.hset(Keys().meta, "erased", await Store(client).deliveries.now_ms())
        now_ms = await Store(client).deliveries.now_ms()
        run = (await client.info())["run_id"]
        await client.hset(Keys().meta, mapping={"rewrite": now_ms, "rewrite:by": run})
        server.kill()
    async with connect(started(servers, tmp_path / "d").url) as client:
        assert on_disk(tmp_path / "d")
        await emptied(tmp_path / "d", Store(client).disk)


async def test_erasures_that_follow_each_other_share_a_rewrite(servers: list[ValkeyProcess], tmp_path: Path) -> None:
    """The second one waits for the pause to end; then its bytes go as well."""
    async with connect(started(servers, tmp_path / "d").url) as client:
        store = Store(client)
        await store.disk.want()
        began = await client.hget(Keys().meta, "rewrite")
        await erased(store)
        assert await store.disk.want()
        assert await client.hget(Keys().meta, "rewrite") == began
        assert began is not None
        await client.hset(Keys().meta, "rewrite", int(began) - PAUSE_MS)
        await emptied(tmp_path / "d", store.disk)


async def test_a_server_that_does_not_permit_it_is_told_of(servers: list[ValkeyProcess], tmp_path: Path) -> None:
    """Without the right, or without such a file, the relay does not claim that the bytes will be gone."""
    async with connect(started(servers, tmp_path / "d").url) as client:
        store = Store(client)
        await client.acl_setuser("default", commands=["-bgrewriteaof"])
        assert not await store.disk.want()
        await client.config_set("appendonly", "no")
        assert not await store.disk.turn()
