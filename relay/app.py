"""The composition root: the only place that reads settings and builds things; signals and the drain.

One task group supervises all loops. A loop that dies takes the process down with exit code 1, so that whoever
started it starts it again; leases, cursors and snapshots make that safe at any moment.
"""

import asyncio
import base64
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp import web

from relay import __version__, identity
from relay.admin import SourceInfo, admin_app, ops_app
from relay.attempts import Attempter
from relay.clock import Clock, SystemClock
from relay.core.errors import ConfigError
from relay.core.keyring import Keyring
from relay.dispatcher import Dispatcher
from relay.egress import Sender
from relay.housekeeping import Housekeeping
from relay.leases import Leases
from relay.poller import Poller
from relay.settings import Address, Settings
from relay.sources.base import Source
from relay.store import Store
from relay.store.connect import check_server, connect
from relay.store.embedded import EmbeddedStore
from relay.store.errors import STORE_ERRORS
from relay.store.keys import SHARDS
from relay.telemetry import Metrics
from relay.upstreams import build_source, sandboxed

ALL_ROLES = ("poll", "deliver", "api")
AGENT = f"relay/{__version__}"
ALIVE_S = 30.0
"""A replica whose lease loop has not turned for this long is stuck."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Parts:
    """A relay, built and not yet started."""

    settings: Settings
    store: Store
    leases: Leases
    pollers: Mapping[str, Poller]
    dispatcher: Dispatcher | None
    housekeeping: Housekeeping
    apps: tuple[tuple[web.Application, Address], ...]


async def run(
    settings: Settings, roles: Collection[str], *, sandbox: bool, announce: Callable[[Settings], None]
) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. Raises `ConfigError` before anything is started."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        if sandbox:
            settings = await stack.enter_async_context(sandboxed(settings))
        if "poll" in roles:
            require_source(settings)
        embedded = await stack.enter_async_context(_embedded(settings)) if settings.redis_url is None else None
        store = await stack.enter_async_context(_store(settings, embedded))
        draining = asyncio.Event()
        parts = await _build(settings, roles, store, stack, draining)
        for application, address in parts.apps:
            await _listen(application, address, stack)
        await _forget_the_dead(parts, embedded)
        return await _supervise(parts, embedded, stop, draining, lambda: announce(settings))


def require_source(settings: Settings) -> None:
    """Raise `ConfigError` if there is nothing to poll."""
    if not settings.sources:
        raise ConfigError(
            "no source is configured: describe one in a TOML file ([sources.NAME]) and pass it with --config,"
            " or try `relay run --sandbox`"
        )


async def _supervise(
    parts: Parts,
    embedded: EmbeddedStore | None,
    stop: asyncio.Event,
    draining: asyncio.Event,
    announce: Callable[[], None],
) -> int:
    """Run the loops until told to stop, then drain; a loop that dies ends everything."""
    try:
        async with asyncio.TaskGroup() as group:
            polls = [group.create_task(poller.run()) for poller in parts.pollers.values()]
            loops = [group.create_task(parts.leases.run()), group.create_task(parts.housekeeping.run())]
            if embedded is not None:
                loops.append(group.create_task(embedded.keep()))
            if parts.dispatcher is not None:
                loops.append(group.create_task(parts.dispatcher.run()))
            announce()
            await stop.wait()
            stop.clear()
            log.info("relay.stopping")
            draining.set()
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
        try:
            if parts.dispatcher is not None:
                await parts.dispatcher.drain(parts.settings.drain_s)
            await parts.leases.leave()
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
        for warning in await check_server(client, wait_replicas=_wait_replicas(settings)):
            log.warning("store.warning", detail=warning)
        yield Store(client, settings.namespace)
    finally:
        await client.aclose()


def _wait_replicas(settings: Settings) -> int:
    """Sentinel and Cluster can lose a tail, so there an event must be on a replica before anybody sees it."""
    if settings.redis.wait_replicas is not None:
        return settings.redis.wait_replicas
    scheme = urlsplit(settings.redis_url.get_secret_value()).scheme if settings.redis_url else "unix"
    return int(scheme in ("redis+sentinel", "redis+cluster"))


async def _build(
    settings: Settings,
    roles: Collection[str],
    store: Store,
    stack: contextlib.AsyncExitStack,
    draining: asyncio.Event,
) -> Parts:
    clock, metrics, rng = SystemClock(), Metrics(), random.Random()
    keyring = Keyring(_encryption_keys(settings))
    sources: dict[str, Source] = {}
    if "poll" in roles and settings.sources:
        # A session of their own: upstream answers are decompressed, subscribers' answers never are.
        session = await stack.enter_async_context(
            aiohttp.ClientSession(headers={"User-Agent": AGENT}, trust_env=False, cookie_jar=aiohttp.DummyCookieJar())
        )
        sources = {name: build_source(name, one, session, clock) for name, one in settings.sources.items()}
    leases = Leases(
        store.leases,
        clock,
        metrics,
        owner=identity.owner_name(),
        roles=",".join(role for role in ("poll", "deliver") if role in roles) or "api",
        sources=list(sources),
        shards=range(SHARDS) if "deliver" in roles else (),
    )
    pollers = {
        name: Poller(
            source,
            store.snapshots,
            leases,
            clock,
            metrics,
            emit_first=settings.sources[name].first_poll == "emit",
            keep_entities_s=settings.retention.entities_s,
            rng=rng,
        )
        for name, source in sources.items()
    }
    sender = await stack.enter_async_context(
        Sender(allow=settings.egress.allow_cidrs, allow_http=settings.egress.allow_http, user_agent=AGENT)
    )
    attempter = Attempter(sender, clock, metrics, rng, schedule_s=settings.retry.schedule_s, agent=AGENT)

    def on_control(kind: str, value: str) -> None:
        if kind == "poll" and value in pollers:
            pollers[value].poll_now()

    # A replica that polls only still follows the control stream, which is where "poll now" arrives.
    dispatcher = Dispatcher(
        store,
        keyring,
        attempter,
        leases,
        clock,
        metrics,
        wait_replicas=_wait_replicas(settings),
        keep_attempts_s=settings.retention.attempts_s,
        on_control=on_control,
    )
    housekeeping = Housekeeping(
        store.log,
        store.deliveries,
        leases,
        keep_events_s=settings.retention.events_s,
        keep_attempts_s=settings.retention.attempts_s,
    )
    apps = [
        (
            ops_app(
                metrics=metrics,
                alive=lambda: clock.monotonic() - leases.last_turn < ALIVE_S,
                ready=lambda: _unready(store, draining),
            ),
            settings.ops_listen,
        )
    ]
    if "api" in roles:
        apps.append((_admin(settings, store, keyring, attempter, clock, rng), settings.listen))
    works = "deliver" in roles or bool(pollers)
    return Parts(settings, store, leases, pollers, dispatcher if works else None, housekeeping, tuple(apps))


def _admin(
    settings: Settings, store: Store, keyring: Keyring, attempter: Attempter, clock: Clock, rng: random.Random
) -> web.Application:
    return admin_app(
        store=store,
        keyring=keyring,
        attempter=attempter,
        tokens=_tokens(settings),
        allow=settings.egress.allow_cidrs,
        allow_http=settings.egress.allow_http,
        sources=[SourceInfo(name, one.kind, one.interval_s) for name, one in settings.sources.items()],
        clock=clock,
        rng=rng,
        max_attempts=len(settings.retry.schedule_s) + 1,
    )


def _tokens(settings: Settings) -> list[str]:
    if settings.admin_tokens:
        return [token.get_secret_value() for token in settings.admin_tokens]
    return [identity.kept_token(settings.data_dir)]


def _encryption_keys(settings: Settings) -> list[bytes]:
    if settings.encryption_keys:
        return [base64.b64decode(key.get_secret_value()) for key in settings.encryption_keys]
    return [identity.kept_key(settings.data_dir)]


async def _unready(store: Store, draining: asyncio.Event) -> str | None:
    """Why this replica should get no requests; None if it should."""
    if draining.is_set():
        return "draining"
    try:
        await store.client.ping()
    except STORE_ERRORS as error:
        return f"the store does not answer ({type(error).__name__})"
    return None


async def _listen(application: web.Application, address: Address, stack: contextlib.AsyncExitStack) -> None:
    runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, address.host, address.port).start()
    except OSError as error:
        setting = "RELAY_OPS_LISTEN" if "/healthz" in str(list(application.router.resources())) else "RELAY_LISTEN"
        raise ConfigError(f"cannot listen on {address} ({error.strerror}); set {setting} to another address") from None


async def _forget_the_dead(parts: Parts, embedded: EmbeddedStore | None) -> None:
    """An embedded store is this machine's own: leases of processes that are gone are free at once."""
    if embedded is not None:
        parts.leases.forget(identity.dead_neighbours(await parts.store.leases.owners()))
