"""What can be set, with its defaults. Names are part of the public face."""

import re
from base64 import b64decode
from binascii import Error as BinasciiError
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from relay.core.addresses import UrlRefusedError, parse_proxy
from relay.core.envelope import MAX_PAYLOAD_BYTES
from relay.core.keyring import KEY_BYTES
from relay.core.retry import DEFAULT_SCHEDULE_S

PREFIX = "RELAY_"
DAY_S = 86_400
MAX_RETENTION_S = 3650 * DAY_S
MIN_TOKEN_LENGTH = 16

_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?")
_PORT = re.compile(r"[0-9]{1,5}")
_SOURCE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_URL_TEXT = re.compile(r"[!-~]+")
"""A parser would drop a tab or a line feed without a word."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class Address(_Model):
    """Where to listen."""

    host: str
    port: int = Field(ge=0, le=65535)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        """`host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    host, separator, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not _HOST.fullmatch(host) or not _PORT.fullmatch(port):
        raise ValueError("write it as host:port, for example 127.0.0.1:8080")
    return {"host": host, "port": int(port)}


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its message may repeat what stands before an @
        usable = False
    if not usable or not _URL_TEXT.fullmatch(value):
        raise ValueError("write a full address that begins with https:// (or http://)")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("it must not hold a user name, a password, a query or a fragment")
    return value.rstrip("/")


def _network(value: object) -> object:
    try:
        return ip_network(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("write a range such as 10.0.0.0/8, without bits beyond the prefix") from None


def token_fault(text: str) -> str | None:
    """Why this cannot be an admin token; None if it can."""
    if len(text) >= MIN_TOKEN_LENGTH and text.isascii() and text.isprintable() and " " not in text:
        return None
    return (
        f"a token needs at least {MIN_TOKEN_LENGTH} printable characters without spaces"
        " (openssl rand -hex 32 makes one)"
    )


def _token(value: SecretStr) -> SecretStr:
    if fault := token_fault(value.get_secret_value()):
        raise ValueError(fault)
    return value


def _source_name(name: str) -> str:
    if not _SOURCE_NAME.fullmatch(name):
        raise ValueError(
            "a source's name begins with a small letter, and holds at most 32 small letters, digits, - and _"
        )
    return name


def _encryption_key(value: SecretStr) -> SecretStr:
    try:
        length = len(b64decode(value.get_secret_value(), validate=True))
    except (BinasciiError, ValueError):
        raise ValueError("an encryption key is base64 (openssl rand -base64 32 makes one)") from None
    if length != KEY_BYTES:
        raise ValueError(f"an encryption key holds {KEY_BYTES} bytes, not {length} (openssl rand -base64 32)")
    return value


def _proxy(value: SecretStr) -> SecretStr:
    try:
        parse_proxy(value.get_secret_value())
    except UrlRefusedError as error:
        raise ValueError(str(error)) from None
    return value


ListenAddress = Annotated[Address, BeforeValidator(_address)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Token = Annotated[SecretStr, AfterValidator(_token)]
EncryptionKey = Annotated[SecretStr, AfterValidator(_encryption_key)]
ProxyAddress = Annotated[SecretStr, AfterValidator(_proxy)]
Credential = Annotated[SecretStr, Field(min_length=1)]
SourceName = Annotated[str, AfterValidator(_source_name)]
Interval = Annotated[float, Field(gt=0, le=DAY_S)]
Delay = Annotated[float, Field(gt=0, le=30 * DAY_S)]


class _Source(_Model):
    base_url: HttpUrl
    first_poll: Literal["baseline", "emit"] = "baseline"
    progress: bool = False
    """Whether rising progress makes events."""


class LodSource(_Source):
    """A Lab on Demand consumer."""

    kind: Literal["lod"]
    base_url: HttpUrl = "https://labondemand.com/api/v3"
    api_key: Credential
    interval_s: Interval = 30
    overlap_s: float = Field(default=900, ge=60, le=6 * DAY_S)
    sweep_s: float = Field(default=900, ge=0)
    """How often a poll asks for the widest window (seven days); 0: never."""


class LearnositySource(_Source):
    """A Learnosity consumer."""

    kind: Literal["learnosity"]
    base_url: HttpUrl = "https://data.learnosity.com"
    version: str = Field(default="v2025.1.LTS", pattern=r"^[A-Za-z0-9._-]+$")
    consumer_key: Credential
    consumer_secret: Credential
    domain: str = Field(min_length=1)
    interval_s: Interval = 10
    overlap_s: float = Field(default=120, ge=1, le=6 * DAY_S)
    settle_s: float = Field(default=2, ge=0, le=300)
    """How far behind the upstream's clock a poll ends, so that its pages do not move while they are read."""
    session_metadata: tuple[str, ...] = ()


Source = Annotated[LodSource | LearnositySource, Field(discriminator="kind")]


class Egress(_Model):
    """What may be dialled."""

    allow_cidrs: tuple[Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)], ...] = ()
    allow_http: bool = False
    proxy: ProxyAddress | None = None
    """`http://[user:password@]host:port`; a secret, because it may hold a password."""


class Redis(_Model):
    """How the store is used."""

    wait_replicas: int | None = Field(default=None, ge=0, le=10)


class Retry(_Model):
    """When a failed delivery is tried again."""

    schedule_s: tuple[Delay, ...] = Field(default=DEFAULT_SCHEDULE_S, min_length=1, max_length=50)
    notice_after_s: float = Field(default=600, ge=0, le=30 * DAY_S)
    """A subscriber that has failed for so long, without one success, is told of as failing."""
    disable_after_s: float = Field(default=5 * DAY_S, ge=0, le=365 * DAY_S)
    """One that is told of as failing, and has failed for so long, is disabled."""


class Retention(_Model):
    """How long things are kept, in seconds."""

    events_s: float = Field(default=30 * DAY_S, ge=3600, le=MAX_RETENTION_S)
    attempts_s: float = Field(default=7 * DAY_S, ge=3600, le=MAX_RETENTION_S)
    entities_s: float = Field(default=90 * DAY_S, ge=DAY_S, le=MAX_RETENTION_S)


class Sandbox(_Model):
    """The simulated upstreams."""

    listen: ListenAddress | None = None
    """Default: 127.0.0.1:8090, or any free port if that one is taken."""


class Log(_Model):
    """What is written to stderr."""

    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(_Model):
    """Everything that can be set."""

    namespace: str = Field(default="relay", pattern=r"^[a-z0-9_-]{1,32}$")
    redis_url: SecretStr | None = None
    data_dir: Path = Path(".relay")
    listen: ListenAddress = Address(host="127.0.0.1", port=8080)
    ops_listen: ListenAddress = Address(host="127.0.0.1", port=8081)
    admin_tokens: tuple[Token, ...] = ()
    encryption_keys: tuple[EncryptionKey, ...] = ()
    drain_s: float = Field(default=20, ge=0, le=600)
    """How long a stop waits for attempts in flight."""
    max_payload_bytes: int = Field(default=MAX_PAYLOAD_BYTES, ge=4096, le=64 * 1024 * 1024)
    """A larger body is a dead letter at once."""
    egress: Egress = Egress()
    redis: Redis = Redis()
    retry: Retry = Retry()
    retention: Retention = Retention()
    sandbox: Sandbox = Sandbox()
    log: Log = Log()
    sources: dict[SourceName, Source] = {}

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if "relay" in self.sources:
            raise ValueError("sources.relay: this name is the relay's own; choose another")
        if self.redis_url is not None:
            scheme = self.redis_url.get_secret_value().partition("://")[0].lower()
            if scheme not in ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster"):
                raise ValueError(
                    "redis_url: begins with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
                )
            for name in ("admin_tokens", "encryption_keys"):
                if not getattr(self, name):
                    raise ValueError(f"{name}: required with redis_url (set {PREFIX}{name.upper()} to a JSON list)")
        if not self.listen.is_loopback and not self.admin_tokens:
            raise ValueError("admin_tokens: required where other machines can reach listen (set RELAY_ADMIN_TOKENS)")
        if self.listen.port and self.listen == self.ops_listen:
            raise ValueError("ops_listen: must differ from listen")
        return self
