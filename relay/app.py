"""Running a relay: start in the right order, supervise, stop on signals with a drain.

One task group supervises all loops. A loop that dies takes the process down with exit code 1, so that whoever
started it starts it again; leases, cursors and snapshots make that safe at any moment.
"""

import asyncio
import contextlib
import functools
import resource
import signal
from collections.abc import AsyncIterator, Callable, Collection

import structlog

from relay import garbage, identity
from relay.admin import serving
from relay.core.errors import ConfigError
from relay.settings import Settings
from relay.store import Store
from relay.store.connect import check_server, connect, takes_script_flags
from relay.store.embedded import EmbeddedStore
from relay.store.errors import STORE_ERRORS
from relay.upstreams import sandboxed, why_not
from relay.wiring import Listener, Parts, build, wait_replicas

ALL_ROLES = ("poll", "deliver", "api")
DESCRIPTORS = 65_536
"""Open files that are asked for: each attempt in flight has one, and the usual 1,024 (macOS: 256) would not last."""

log = structlog.get_logger()


async def run(
    settings: Settings, roles: Collection[str], *, sandbox: bool, announce: Callable[[Settings], None]
) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. Raises `ConfigError` before anything is started."""
    _raise_descriptor_limit()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        if sandbox:
            settings = await stack.enter_async_context(sandboxed(settings))
        if "poll" in roles and not settings.sources:
            raise ConfigError(
                "no source is configured: describe one in a TOML file ([sources.NAME]) and pass it with --config,"
                " or try `relay run --sandbox`"
            )
        embedded = await stack.enter_async_context(_embedded(settings)) if settings.redis_url is None else None
        store = await stack.enter_async_context(_store(settings, embedded))
        parts = await build(settings, roles, store, stack, sandbox=sandbox)
        for listener in parts.listeners:
            await _listen(listener, stack)
        if embedded is not None:
            # The store is this machine's own: the leases of processes that are gone are free at once.
            parts.leases.forget(identity.dead_neighbours(await store.leases.owners()))
        return await _supervise(parts, embedded, stop, lambda: announce(settings))


async def _supervise(
    parts: Parts, embedded: EmbeddedStore | None, stop: asyncio.Event, announce: Callable[[], None]
) -> int:
    """Run the loops until told to stop, then drain; a loop that dies ends everything."""
    try:
        async with asyncio.TaskGroup() as group:
            polls = [group.create_task(poller.run()) for poller in parts.pollers.values()]
            works = [parts.leases.run(), parts.housekeeping.run(), parts.dispatcher.run(), parts.tail.run()]
            works += [parts.replays.run()]
            works += [embedded.keep()] if embedded is not None else []
            loops = [group.create_task(work) for work in works]
            garbage.settle()
            announce()
            await stop.wait()
            stop.clear()
            log.info("relay.stopping")
            parts.draining.set()
            parts.tail.close()
            for poll in polls:
                poll.cancel()
            await _drain(parts, stop)
            for task in loops:
                task.cancel()
    except BaseExceptionGroup:
        log.exception("relay.loop_died")
        return 1
    log.info("relay.stopped")
    return 0


async def _drain(parts: Parts, again: asyncio.Event) -> None:
    """Let attempts in flight end and give the leases back; a second signal cuts that short."""

    async def orderly() -> None:
        drain = functools.partial(parts.dispatcher.drain, parts.settings.drain_s)
        for step in (parts.leases.leave_polling, drain, parts.leases.leave):
            try:
                await step()
            except STORE_ERRORS as error:
                log.warning("relay.drain_incomplete", error=type(error).__name__)

    tasks = [asyncio.create_task(orderly()), asyncio.create_task(again.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _embedded(settings: Settings) -> AsyncIterator[EmbeddedStore]:
    embedded = EmbeddedStore(settings.data_dir)
    await embedded.ensure()
    log.info("store.embedded", data_dir=str(settings.data_dir), attached=embedded.attached)
    try:
        yield embedded
    finally:
        await embedded.stop()


@contextlib.asynccontextmanager
async def _store(settings: Settings, embedded: EmbeddedStore | None) -> AsyncIterator[Store]:
    url = embedded.url if embedded else settings.redis_url.get_secret_value() if settings.redis_url else ""
    client = connect(url, namespace=settings.namespace)
    try:
        for warning in await check_server(client, wait_replicas=wait_replicas(settings)):
            log.warning("store.warning", detail=warning)
        yield Store(client, settings.namespace, script_flags=await takes_script_flags(client))
    finally:
        await client.aclose()


async def _listen(listener: Listener, stack: contextlib.AsyncExitStack) -> None:
    address = listener.address
    try:
        await stack.enter_async_context(serving(listener.application, address.host, address.port, listener.gate))
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address} ({why_not(error)}); set {listener.setting} to another address"
        ) from None


def _raise_descriptor_limit() -> None:
    """Raise the soft limit as far as the hard one lets it; a system that refuses leaves it as it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
