"""From a RELAY_REDIS_URL to a client, and the check whether its server is one that events may be trusted to.

Invariants: every topology gives the same `redis.asyncio.Redis`; the client sends no command twice (what a lost reply
means is the caller's to decide); no message shows a password.
"""

import re
from collections.abc import Mapping
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.maint_notifications import MaintNotificationsConfig

from relay.core.errors import ConfigError
from relay.store.connections import (
    CONNECTIONS,
    SEED_TIMEOUT_S,
    Locator,
    UnixConnection,
    cluster_locator,
    sentinel_locator,
)
from relay.store.redis_url import RedisUrl, parse, safe_url

__all__ = ["check_server", "connect", "judge", "safe_url", "takes_script_flags"]

HEALTH_CHECK_S = 15
"""A connection idle for longer is tried with a PING first, so that no mutating command finds out that it is dead."""
OLDEST = (6, 2)
SCRIPT_FLAGS = (7, 0)
"""The first version that takes a script's line of flags (redis.io, "Script flags")."""


def connect(url: str, *, connections: int = 32, socket_timeout_s: float = 5.0, namespace: str = "relay") -> Redis:
    """Make a client; nothing is dialled yet. Raises `ConfigError` for a URL that cannot be used.

    Replies are bytes. A blocking read must ask for less than `socket_timeout_s`. `namespace`, the hash tag of the
    relay's keys, matters on a Cluster only. That a primary was lost or a slot moved shows as
    `redis.ConnectionError`; a later call finds the new place.
    """
    target = parse(url)
    kwargs = _kwargs(target, socket_timeout_s, namespace)
    pool = BlockingConnectionPool(max_connections=connections, timeout=socket_timeout_s, **kwargs)
    pool.connection_kwargs["on_refusal"] = lambda: pool.disconnect(inuse_connections=False)
    return Redis.from_pool(pool)


def _kwargs(target: RedisUrl, socket_timeout_s: float, namespace: str) -> dict[str, Any]:
    common: dict[str, Any] = {
        **_handshake(socket_timeout_s),
        **target.credentials,
        **{name: value for name, value in target.options.items() if not name.startswith("sentinel_")},
        "db": target.db,
    }
    if target.kind == "unix":
        return {**common, "connection_class": UnixConnection, "path": target.path}
    roaming = target.kind != "single"
    common["connection_class"] = CONNECTIONS[roaming, target.tls]
    if roaming:
        return {**common, "locator": _locator(target, common, socket_timeout_s, namespace)}
    host, port = target.addresses[0]
    return {**common, "host": host, "port": port}


def _handshake(socket_timeout_s: float) -> dict[str, Any]:
    return {
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": socket_timeout_s,
        "health_check_interval": HEALTH_CHECK_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 3,
        "legacy_responses": False,
        "decode_responses": False,
        "client_name": "relay",
        "driver_info": None,  # two commands fewer that an ACL has to allow
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def _locator(target: RedisUrl, common: Mapping[str, Any], socket_timeout_s: float, namespace: str) -> Locator:
    seed = {
        **common,
        **_handshake(min(socket_timeout_s, SEED_TIMEOUT_S)),
        "connection_class": CONNECTIONS[False, target.tls],
        "db": 0,
    }
    if target.kind == "cluster":
        return cluster_locator(target.addresses, key_slot(b"{%s}" % namespace.encode()), **seed)
    for name in ("username", "password"):  # Sentinels have their own
        seed.pop(name, None)
        if value := target.options.get(f"sentinel_{name}"):
            seed[name] = value
    return sentinel_locator(target.addresses, target.service, **seed)


async def check_server(client: Redis, *, wait_replicas: int) -> list[str]:
    """Make sure that the server can be trusted with events; returns warnings.

    Raises `ConfigError` if it cannot be used at all. `wait_replicas` is RELAY_REDIS__WAIT_REPLICAS.
    """
    info = await _info(client)
    where = _where(client)
    return judge(info, await _appendfsync(client), wait_replicas=wait_replicas, where=where, roaming=_roams(client))


async def takes_script_flags(client: Redis) -> bool:
    """Whether the server's scripts may begin with a line of flags; raises `ConfigError` if it cannot be asked."""
    return version_of(await _info(client)) >= SCRIPT_FLAGS


def version_of(info: Mapping[str, Any]) -> tuple[int, ...]:
    """Major and minor version of the Redis that INFO says the server is, or is compatible with; () if it says none."""
    return tuple(int(part) for part in re.findall(r"\d+", str(info.get("redis_version")))[:2])


async def _info(client: Redis) -> Mapping[str, Any]:
    where = _where(client)
    try:
        await client.ping()
        return await client.info()
    except AuthenticationError:
        raise ConfigError(
            f"the store at {where} refused the credentials: RELAY_REDIS_URL must name the user and the password"
        ) from None
    except BusyLoadingError:
        raise ConfigError(f"the store at {where} is still loading its data: start again when it is ready") from None
    except NoPermissionError:
        raise ConfigError(f"the user at {where} lacks permissions: it needs PING, INFO and CLIENT|SETNAME") from None
    except ResponseError:  # the text may quote the handshake, the password included
        raise ConfigError(
            f"the store at {where} does not understand the handshake: Redis 6.2, Valkey 7.2 or newer is needed"
        ) from None
    except (RedisError, OSError) as error:
        raise ConfigError(
            f"the store at {where} cannot be reached: {error}. Is it running, and are the address, the firewall "
            "and TLS (rediss://) in RELAY_REDIS_URL right?"
        ) from None


async def _appendfsync(client: Redis) -> str | None:
    """Read the fsync policy; None where CONFIG is not permitted, as on managed services."""
    try:
        return (await client.config_get("appendfsync")).get("appendfsync")
    except ResponseError:
        return None


def judge(
    info: Mapping[str, Any], appendfsync: str | None, *, wait_replicas: int, where: str, roaming: bool
) -> list[str]:
    """Decide on INFO and the fsync policy (None: unknown). Raises `ConfigError`; returns warnings."""
    version = str(info.get("redis_version", "unknown"))
    if version_of(info) < OLDEST:
        raise ConfigError(f"the store at {where} is Redis {version}: Redis 6.2, Valkey 7.2 or newer is needed")
    if info.get("role") not in ("master", None):
        raise ConfigError(f"the store at {where} is a read-only replica: RELAY_REDIS_URL must name the primary")
    if info.get("cluster_enabled") and not roaming:
        raise ConfigError(f"the store at {where} is a Cluster's node: write redis+cluster://{where}")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise ConfigError(
            f"the store at {where} may evict keys under memory pressure (maxmemory-policy {policy}), which loses "
            "events silently: run `CONFIG SET maxmemory-policy noeviction` and put it into the server's configuration"
        )
    return _warnings(info, appendfsync, wait_replicas, where)


def _warnings(info: Mapping[str, Any], appendfsync: str | None, wait_replicas: int, where: str) -> list[str]:
    warnings = []
    if not info.get("aof_enabled"):
        warnings.append(
            f"the store at {where} has no append-only file: a restart of the server may lose events and state. "
            "Run `CONFIG SET appendonly yes`"
        )
    elif wait_replicas == 0 and appendfsync != "always":
        warnings.append(
            f"the store at {where} has appendfsync {appendfsync or '(unknown, CONFIG is not permitted)'}: a power loss "
            "may lose events that were already dispatched. Run `CONFIG SET appendfsync always`, or have replicas and "
            "set RELAY_REDIS__WAIT_REPLICAS=1"
        )
    replicas = int(info.get("connected_slaves", 0))
    if replicas < wait_replicas:
        warnings.append(
            f"the store at {where} has {replicas} connected replicas, and RELAY_REDIS__WAIT_REPLICAS asks for "
            f"{wait_replicas}: nothing is dispatched until they are there"
        )
    return warnings


def _where(client: Redis) -> str:
    kwargs = client.connection_pool.connection_kwargs
    return str(kwargs.get("path") or kwargs.get("locator") or f"{kwargs.get('host')}:{kwargs.get('port')}")


def _roams(client: Redis) -> bool:
    return "locator" in client.connection_pool.connection_kwargs
