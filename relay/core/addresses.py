"""Which URLs and addresses a subscriber may have: the egress guard's rules, pure and without a look-up.

A server that POSTs wherever it is told to is a way into its own network. The invariant: what is not known to be
public is refused, in every spelling, unless the operator allows it by network. A *name* cannot be judged here; its
answers are judged when they are resolved and again when they are dialled, by `classify`.

Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries, and the WHATWG URL standard for spellings of
IPv4.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import unquote_to_bytes

from relay.core.errors import RelayError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_BYTES: Final = 2048
EVERYWHERE: Final[tuple[Network, ...]] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
"""Allows any address: for what the operator names, a receiver of their own or a proxy, which may be private."""
DEFAULT_PORTS: Final = {"https": 443, "http": 80}

_REFUSED_V4: Final = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "means this host"),
        ("10.0.0.0/8", "is private"),
        ("100.64.0.0/10", "is carrier-grade NAT space"),
        ("127.0.0.0/8", "is loopback"),
        ("168.63.129.16/32", "is a cloud platform's own service"),
        ("169.254.0.0/16", "is link-local (cloud metadata lives there)"),
        ("172.16.0.0/12", "is private"),
        ("192.0.0.0/24", "is reserved for protocols"),
        ("192.0.2.0/24", "is reserved for documentation"),
        ("192.31.196.0/24", "is an AS112 service"),
        ("192.52.193.0/24", "is an AMT relay"),
        ("192.88.99.0/24", "is a 6to4 relay"),
        ("192.168.0.0/16", "is private"),
        ("192.175.48.0/24", "is an AS112 service"),
        ("198.18.0.0/15", "is reserved for benchmarks"),
        ("198.51.100.0/24", "is reserved for documentation"),
        ("203.0.113.0/24", "is reserved for documentation"),
        ("224.0.0.0/4", "is multicast"),
        ("240.0.0.0/4", "is reserved or broadcast"),
    )
)
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_REFUSED_V6: Final = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("2001::/23", "is reserved for protocols (Teredo, ORCHID)"),
        ("2001:db8::/32", "is reserved for documentation"),
        ("2002::/16", "is 6to4, which may hide a private IPv4 address"),
        ("2620:4f:8000::/48", "is an AS112 service"),
        ("3fff::/20", "is reserved for documentation"),
    )
)
_RESERVED_SUFFIXES: Final = (".local", ".internal", ".localhost", ".svc", ".home.arpa", ".onion")

_URL: Final = re.compile(r"(https?)://([^/?]*)([^?]*)(\?.*)?", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_NAME: Final = 253
_MAX_PORT: Final = 65535
_V4_BYTES: Final = 4


class UrlRefusedError(RelayError):
    """A subscriber may not have this URL; the message says why and how to mend it, without the URL."""


@dataclass(frozen=True, slots=True)
class CheckedUrl:
    """A URL that passed, in the one spelling in which it is sent."""

    url: str
    scheme: str
    host: str
    """Lower case, without brackets; a literal in its canonical spelling."""
    port: int
    address: Address | None
    """Set if the host is a literal; None for a name, which is judged when it is resolved."""


@dataclass(frozen=True, slots=True)
class ProxyUrl:
    """Where the egress proxy listens."""

    host: str
    """Lower case, without brackets; a literal in its canonical spelling."""
    port: int
    authorization: str | None = field(default=None, repr=False)
    """The value of `Proxy-Authorization` (RFC 7617), a secret."""


def classify(address: str | Address, allow: Sequence[Network] = ()) -> str | None:
    """Say why `address` may not be dialled ("is private"), or None if it may.

    Networks in `allow` override the table. What does not parse, and what has a scope id, is refused.
    """
    if isinstance(address, str):
        try:
            address = ip_address(address)
        except ValueError:
            return "is not an IP address"
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return "has a scope id, so it is link-local"
        # The kernel dials the IPv4 address behind a mapped one.
        address = address.ipv4_mapped or address
    if any(address in network for network in allow):
        return None
    if isinstance(address, IPv4Address):
        return _first(address, _REFUSED_V4)
    if address not in _GLOBAL_V6:
        return "is not global unicast IPv6"
    return _first(address, _REFUSED_V6)


def _first(address: Address, table: Sequence[tuple[Network, str]]) -> str | None:
    return next((reason for network, reason in table if address in network), None)


def check_url(
    url: str, *, allow_http: bool, ports: frozenset[int] = frozenset({443}), allow: Sequence[Network] = ()
) -> CheckedUrl:
    """Check a subscriber's URL and return it normalised; raises `UrlRefusedError`.

    `allow_http` also permits port 80. With networks in `allow` every port is permitted, and so are the names of a
    local network: whatever such a name resolves to must still pass `classify`.
    """
    if not url:
        raise UrlRefusedError("the URL is empty: it is required")
    _check_characters(url)
    match = _URL.fullmatch(url)
    if match is None:
        schemes = "http:// or https://" if allow_http else "https://"
        raise UrlRefusedError(f"the URL must start with {schemes} and name a host")
    scheme, authority, path, query = match[1].lower(), match[2], match[3] or "/", match[4] or ""
    if scheme == "http" and not allow_http:
        raise UrlRefusedError("plain http is refused: use https, or set RELAY_EGRESS__ALLOW_HTTP")
    host, port = _split(authority, DEFAULT_PORTS[scheme])
    host, address = _check_host(host, allow)
    if not allow and port not in (ports | {80} if allow_http else ports):
        raise UrlRefusedError(f"port {port} is refused: use {' or '.join(map(str, sorted(ports)))}")
    shown = f"[{host}]" if isinstance(address, IPv6Address) else host
    netloc = shown if port == DEFAULT_PORTS[scheme] else f"{shown}:{port}"
    return CheckedUrl(f"{scheme}://{netloc}{path}{query}", scheme, host, port, address)


def parse_proxy(url: str) -> ProxyUrl:
    """Read the egress proxy's URL, `http://[user:password@]host[:port]`; raises `UrlRefusedError`.

    The operator configures it, so it may live anywhere; the message never holds what stands before the @.
    """
    _check_characters(url)
    match = _URL.fullmatch(url)
    if match is None or match[1].lower() != "http" or match[3] not in ("", "/") or match[4]:
        raise UrlRefusedError("the proxy must look like http://host:port, without a path")
    credentials, at, authority = match[2].rpartition("@")
    try:
        host, port = _split(authority, DEFAULT_PORTS["http"])
    except UrlRefusedError:  # what it quotes may be a password without its @
        raise UrlRefusedError("the proxy's host or port cannot be read") from None
    address = _literal(host)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise UrlRefusedError("the proxy's address has a scope id: give it a name or another address")
    authorization = f"Basic {b64encode(unquote_to_bytes(credentials)).decode()}" if at else None
    return ProxyUrl(str(address) if address else _check_name(host, allowed=True), port, authorization)


def _check_characters(url: str) -> None:
    """Refuse what two parsers may read differently, before anything is parsed."""
    if len(url) > MAX_URL_BYTES:
        raise UrlRefusedError(f"the URL is longer than {MAX_URL_BYTES} bytes")
    if not url.isascii():
        raise UrlRefusedError("the URL is not ASCII: write the host in punycode (xn--) and percent-encode the rest")
    if _UNPRINTABLE.search(url):
        raise UrlRefusedError("the URL holds a space or a control character: percent-encode it")
    if "\\" in url:
        raise UrlRefusedError("the URL holds a backslash: percent-encode it as %5C, or use a slash")
    if "#" in url:
        raise UrlRefusedError("the URL has a fragment (#), which is never sent: remove it")


def _split(authority: str, default_port: int) -> tuple[str, int]:
    """Take host and port out of an authority without credentials."""
    if "@" in authority:
        raise UrlRefusedError("the URL holds a user name or password: put credentials into a header instead")
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not match[1]:
        raise UrlRefusedError("the URL's host or port cannot be read")
    port = int(match[2]) if match[2] else default_port
    if not 0 < port <= _MAX_PORT:
        raise UrlRefusedError(f"port {port} does not exist")
    return match[1].lower(), port


def _check_host(host: str, allow: Sequence[Network]) -> tuple[str, Address | None]:
    """Return the canonical host, with its address if it is a literal in any spelling."""
    address = _literal(host)
    if address is None:
        return _check_name(host, allowed=bool(allow)), None
    if reason := classify(address, allow):
        raise UrlRefusedError(
            f"the address {address} {reason}: use a public one, or add its network to RELAY_EGRESS__ALLOW_CIDRS"
        )
    return str(address), address


def _literal(host: str) -> Address | None:
    if host.startswith("["):
        try:
            return IPv6Address(host[1:-1])
        except ValueError:
            raise UrlRefusedError("the URL's IPv6 address cannot be read") from None
    labels = host.removesuffix(".").split(".")
    return _parse_v4(labels) if _NUMERIC.fullmatch(labels[-1]) else None


def _parse_v4(parts: Sequence[str]) -> IPv4Address:
    """Read one to four decimal, octal or hexadecimal parts; the last fills the rest, as the C library has it."""
    refused = UrlRefusedError("the URL's host ends in a number but is not an IPv4 address")
    if len(parts) > _V4_BYTES:
        raise refused
    try:
        *leading, last = map(_number, parts)
        # A number too large for its place overflows here.
        packed = bytes(leading) + last.to_bytes(_V4_BYTES - len(leading), "big")
        return IPv4Address(packed)
    except (ValueError, OverflowError):
        raise refused from None


def _number(part: str) -> int:
    if not _NUMERIC.fullmatch(part):
        raise ValueError
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8) if part.startswith("0") else int(part)


def _check_name(host: str, *, allowed: bool) -> str:
    """Return a name with at most one trailing dot; local names only if some network is allowed."""
    name = host.removesuffix(".")
    if len(name) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise UrlRefusedError("the URL's host is not a valid name")
    if allowed:
        return host
    if f".{name}".endswith(_RESERVED_SUFFIXES):
        raise UrlRefusedError(
            "the URL's host is a name of a local network: use a public one, or set RELAY_EGRESS__ALLOW_CIDRS"
        )
    if "." not in name:
        # The resolver would complete it from the machine's search list.
        raise UrlRefusedError("the URL's host has no domain: write the full name")
    return host
