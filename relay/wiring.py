"""From settings to a relay that is built and not yet started; part of the composition root."""

import asyncio
import base64
import contextlib
import random
import resource
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from relay import __version__, identity
from relay.admin import OPS_CONNECTIONS, FeedTail, Gate, SourceInfo, admin_app, api_connections, ops_app
from relay.attempts import Attempter
from relay.clock import Clock, SystemClock
from relay.core.erasure import Pseudonyms, pseudonyms
from relay.core.errors import ConfigError
from relay.core.keyring import Keyring
from relay.core.retry import highest_attempt
from relay.dispatcher import Dispatcher
from relay.durable import Durable
from relay.egress import Sender
from relay.housekeeping import Housekeeping
from relay.leases import Leases
from relay.poller import Poller
from relay.replays import Replays
from relay.settings import Address, Settings, token_fault
from relay.sources.base import Source
from relay.store import Store
from relay.store.errors import STORE_ERRORS
from relay.store.keys import SHARDS
from relay.telemetry import Metrics
from relay.upstreams import build_source

AGENT = f"relay/{__version__}"
ALIVE_S = 30.0
"""A replica whose lease loop has not turned for this long is stuck."""
PING_S = 2.0
"""A probe that waits longer for the store would be given up by who asks."""


@dataclass(frozen=True)
class Listener:
    """An application, and where it is served."""

    setting: str
    """Which says where."""
    address: Address
    application: web.Application
    gate: Gate


@dataclass(frozen=True)
class Parts:
    """A relay, built and not yet started."""

    settings: Settings
    store: Store
    leases: Leases
    pollers: Mapping[str, Poller]
    dispatcher: Dispatcher
    housekeeping: Housekeeping
    replays: Replays
    tail: FeedTail
    listeners: Sequence[Listener]
    draining: asyncio.Event


@dataclass(frozen=True)
class _Basis:
    """What most parts are made with."""

    settings: Settings
    roles: Collection[str]
    store: Store
    new_secret: Callable[[], str]
    clock: Clock
    metrics: Metrics
    rng: random.Random


async def build(
    settings: Settings, roles: Collection[str], store: Store, stack: contextlib.AsyncExitStack, *, sandbox: bool
) -> Parts:
    """Build every part that the roles call for; what is to be closed goes on the stack."""
    new_secret = _sandbox_secret(settings) if sandbox else identity.new_secret
    basis = _Basis(settings, roles, store, new_secret, SystemClock(), Metrics(), random.Random())
    keyring = Keyring(_encryption_keys(settings))
    sources = await _sources(basis, stack) if "poll" in roles else {}
    leases = Leases(
        store.leases,
        basis.clock,
        basis.metrics,
        owner=identity.owner_name(),
        roles=",".join(role for role in ("poll", "deliver") if role in roles) or "api",
        sources=list(sources),
        shards=range(SHARDS) if "deliver" in roles else (),
    )
    names = pseudonyms(keyring)
    pollers = {name: _poller(basis, name, source, leases, names) for name, source in sources.items()}
    attempter = await _attempter(basis, stack)

    durable = Durable(store.log, wait_replicas(settings))
    tail = FeedTail(store.log, durable, basis.metrics)

    def on_control(kind: str, value: str) -> None:
        if kind == "poll" and value in pollers:
            pollers[value].poll_now()
        elif kind == "forget":
            tail.forget()
            for poller in pollers.values():
                poller.forget(value)
        else:
            replays.on_control(kind, value)

    # Every replica follows the log's control stream, which is where "poll now" arrives; without the deliver role it
    # holds no shard and sends nothing.
    dispatcher = Dispatcher(
        store,
        keyring,
        attempter,
        leases,
        basis.clock,
        basis.metrics,
        rng=basis.rng,
        wait_replicas=wait_replicas(settings),
        notice_after_s=settings.retry.notice_after_s,
        disable_after_s=settings.retry.disable_after_s,
        keep_attempts_s=settings.retention.attempts_s,
        on_control=on_control,
    )
    highest = highest_attempt(len(settings.retry.schedule_s) + 1)
    replays = Replays(store, leases, basis.metrics, highest_attempt=highest, room=dispatcher.room)
    housekeeping = Housekeeping(
        store.log,
        store.deliveries,
        leases,
        registry=store.registry,
        disk=store.disk,
        keep_events_s=settings.retention.events_s,
        keep_attempts_s=settings.retention.attempts_s,
    )
    draining = asyncio.Event()
    gate = Gate("ops", basis.metrics, connections=OPS_CONNECTIONS)
    listeners = [Listener("RELAY_OPS_LISTEN", settings.ops_listen, _ops(basis, leases, draining), gate)]
    if "api" in roles:
        gate = Gate("api", basis.metrics, connections=api_connections(_descriptors()))
        admin = _admin(basis, keyring, attempter, durable, tail)
        listeners.append(Listener("RELAY_LISTEN", settings.listen, admin, gate))
    return Parts(settings, store, leases, pollers, dispatcher, housekeeping, replays, tail, listeners, draining)


def wait_replicas(settings: Settings) -> int:
    """Sentinel and Cluster can lose a tail, so there an event must be on a replica before anybody sees it."""
    if settings.redis.wait_replicas is not None:
        return settings.redis.wait_replicas
    scheme = urlsplit(settings.redis_url.get_secret_value()).scheme if settings.redis_url else "unix"
    return int(scheme.endswith(("+sentinel", "+cluster")))


async def _sources(basis: _Basis, stack: contextlib.AsyncExitStack) -> dict[str, Source]:
    # A session of their own: upstream answers are decompressed, subscribers' answers never are.
    session = await stack.enter_async_context(
        aiohttp.ClientSession(headers={"User-Agent": AGENT}, trust_env=False, cookie_jar=aiohttp.DummyCookieJar())
    )
    return {name: build_source(name, one, session, basis.clock) for name, one in basis.settings.sources.items()}


def _poller(basis: _Basis, name: str, source: Source, leases: Leases, names: Pseudonyms) -> Poller:
    return Poller(
        source,
        basis.store.snapshots,
        leases,
        basis.clock,
        basis.metrics,
        emit_first=basis.settings.sources[name].first_poll == "emit",
        keep_entities_s=basis.settings.retention.entities_s,
        rng=basis.rng,
        names=names,
    )


async def _attempter(basis: _Basis, stack: contextlib.AsyncExitStack) -> Attempter:
    egress = basis.settings.egress
    sender = await stack.enter_async_context(
        Sender(
            allow=egress.allow_cidrs,
            allow_http=egress.allow_http,
            user_agent=AGENT,
            proxy=egress.proxy.get_secret_value() if egress.proxy else None,
        )
    )
    return Attempter(
        sender,
        basis.clock,
        basis.metrics,
        basis.rng,
        schedule_s=basis.settings.retry.schedule_s,
        agent=AGENT,
        max_payload_bytes=basis.settings.max_payload_bytes,
    )


def _admin(basis: _Basis, keyring: Keyring, attempter: Attempter, durable: Durable, tail: FeedTail) -> web.Application:
    settings = basis.settings
    return admin_app(
        store=basis.store,
        keyring=keyring,
        attempter=attempter,
        tokens=_tokens(settings),
        allow=settings.egress.allow_cidrs,
        allow_http=settings.egress.allow_http,
        sources=[SourceInfo(name, one.kind, one.interval_s) for name, one in settings.sources.items()],
        clock=basis.clock,
        rng=basis.rng,
        max_attempts=len(settings.retry.schedule_s) + 1,
        new_secret=basis.new_secret,
        durable=durable,
        tail=tail,
        metrics=basis.metrics,
    )


def _descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _ops(basis: _Basis, leases: Leases, draining: asyncio.Event) -> web.Application:
    def alive() -> bool:
        return basis.clock.monotonic() - leases.last_turn < ALIVE_S

    async def unready() -> str | None:
        if draining.is_set():
            return "draining"
        try:
            async with asyncio.timeout(PING_S):
                await basis.store.client.ping()
        except STORE_ERRORS as error:
            return f"the store does not answer ({type(error).__name__})"
        return None

    return ops_app(metrics=basis.metrics, alive=alive, ready=unready)


def _sandbox_secret(settings: Settings) -> Callable[[], str]:
    """One secret for all subscribers of the sandbox, kept where `relay listen` finds it."""
    secret = identity.sandbox_secret(settings.data_dir)
    return lambda: secret


def _tokens(settings: Settings) -> list[str]:
    if settings.admin_tokens:
        return [token.get_secret_value() for token in settings.admin_tokens]
    token = identity.kept_token(settings.data_dir)
    if fault := token_fault(token):
        path = identity.token_file(settings.data_dir)
        raise ConfigError(f"{path}: {fault}; or remove the file to have a new one made")
    return [token]


def _encryption_keys(settings: Settings) -> list[bytes]:
    if settings.encryption_keys:
        return [base64.b64decode(key.get_secret_value()) for key in settings.encryption_keys]
    return [identity.kept_key(settings.data_dir)]
