"""RELAY_REDIS_URL, read and masked. Invariant: no error and no masked form shows a password."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from relay.core.errors import ConfigError

Address = tuple[str, int]

_SUPPORTED = (
    "redis://host:port/db, unix:///path, redis+sentinel://h1:p,h2:p/service/db, redis+cluster://h1:p,h2:p; "
    "rediss for TLS"
)
_KINDS = {"redis": "single", "unix": "unix", "redis+sentinel": "sentinel", "redis+cluster": "cluster"}
_PORTS = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_TLS_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_cert_reqs": {word: word for word in ("required", "optional", "none")}.__getitem__,
    "ssl_check_hostname": lambda word: _TRUTHS[word.lower()],
}
_KIND_OPTIONS: Mapping[str, Mapping[str, Callable[[str], Any]]] = {
    "unix": {"db": int},
    "sentinel": {"sentinel_username": str, "sentinel_password": str},
}


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What a URL says."""

    kind: str
    """`single`, `unix`, `sentinel` or `cluster`."""
    tls: bool
    credentials: Mapping[str, str]
    """`username` and `password`, where given."""
    addresses: tuple[Address, ...]
    """The server, the Sentinels or the Cluster's seed nodes; empty for a unix socket."""
    path: str
    """The unix socket's."""
    service: str
    """The name under which Sentinels know the primary."""
    db: int
    options: Mapping[str, Any]
    """The query, converted."""


def safe_url(url: str) -> str:
    """Mask the password and everything that might be one, also in a URL that is written wrongly."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***"  # possibly a bare password
    userinfo, at, rest = rest.rpartition("@")  # an unescaped password may hold any of / ? #
    if at and not userinfo.startswith("/"):
        user, colon, _ = userinfo.partition(":")
        userinfo = f"{user}:***" if colon else "***"
    rest, _, _ = rest.partition("#")
    rest, mark, query = rest.partition("?")
    known = "&".join(
        pair if pair.partition("=")[0] in {*_TLS_OPTIONS, "db"} else f"{pair.partition('=')[0]}=***"
        for pair in query.split("&")
    )
    return f"{scheme}://{userinfo}{at}{rest}{mark}{known if mark else ''}"


def parse(url: str) -> RedisUrl:
    """Read a URL. Raises `ConfigError`, without any password, if it makes no sense."""
    try:
        parts = urlsplit(url)
        return _read(parts)
    except ConfigError as error:
        raise ConfigError(f"RELAY_REDIS_URL {safe_url(url)}: {error}") from None
    except ValueError:  # its text quotes the URL, possibly the password
        raise ConfigError(
            f"RELAY_REDIS_URL {safe_url(url)} cannot be read: special characters in a password must be %-encoded"
        ) from None


def _read(parts: SplitResult) -> RedisUrl:
    tls = parts.scheme.startswith("rediss")
    kind = _KINDS.get(parts.scheme.replace("rediss", "redis", 1))
    if kind is None:
        raise ConfigError(f"its scheme is not supported. Supported: {_SUPPORTED}")
    if "@" in parts.query + parts.fragment + (parts.path if kind != "unix" else ""):
        raise ValueError  # the password ended the authority early, so nothing here is what it seems
    if parts.fragment:
        raise ConfigError("it holds a #, which must be written %23")
    userinfo, _, hosts = parts.netloc.rpartition("@")
    service, db = _service_and_db(kind, parts.path)
    options = _options(kind, tls=tls, query=parts.query)
    return RedisUrl(
        kind=kind,
        tls=tls,
        credentials=_credentials(userinfo),
        addresses=() if kind == "unix" else tuple(_address(host, _PORTS[kind]) for host in hosts.split(",")),
        path=_socket(hosts, parts.path) if kind == "unix" else "",
        service=service,
        db=options.pop("db", db),
        options=options,
    )


def _credentials(userinfo: str) -> dict[str, str]:
    user, _, password = userinfo.partition(":")
    named = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in named.items() if value}


def _address(text: str, default_port: int) -> Address:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ConfigError("it names no host")
    return parts.hostname, parts.port or default_port


def _socket(host: str, path: str) -> str:
    if host or len(path) <= 1:
        raise ConfigError("it names no socket: write unix:///absolute/path")
    return unquote(path)


def _service_and_db(kind: str, path: str) -> tuple[str, int]:
    if kind == "unix":
        return "", 0
    segments = [unquote(segment) for segment in path.split("/") if segment]
    service = ""
    if kind == "sentinel":
        if not segments:
            raise ConfigError("it names no service: write redis+sentinel://h1:p,h2:p/service/db")
        service = segments.pop(0)
    number = segments.pop(0) if segments else "0"
    if segments or not (number.isascii() and number.isdigit()):
        raise ConfigError("what follows the host is not a database number")
    if kind == "cluster" and int(number):
        raise ConfigError("a Cluster has database 0 only")
    return service, int(number)


def _options(kind: str, *, tls: bool, query: str) -> dict[str, Any]:
    allowed = dict(_KIND_OPTIONS.get(kind, {})) | (dict(_TLS_OPTIONS) if tls else {})
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in allowed:
            raise ConfigError(f"its option {name} is not supported here (only {', '.join(allowed) or 'none'})")
        try:
            options[name] = allowed[name](text)
        except (KeyError, ValueError):
            raise ConfigError(f"its option {name} has no usable value") from None
    return options
