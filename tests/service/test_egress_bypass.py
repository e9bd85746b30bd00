"""The bypass table: every known way round the guard, at each of its three layers alone.

The layers: the URL (`check_url`), the resolver (the C library's answers, or those of a hostile name server) and the
socket's factory. An address that is refused must be refused by each of them, so that none depends on another.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from relay.core.addresses import UrlRefusedError, check_url
from relay.core.outcome import Outcome, Reply
from relay.egress import GuardedResolver, Sender
from relay.egress.resolver import AddressBlockedError, AddressInfo, LookupFailedError, check_address, system_lookup
from relay.egress.transport import open_socket
from tests.service.egress_rig import answers
from tests.service.raw_server import LOOPBACK, OK, always, sender, serving

HEADERS = {"webhook-id": "evt_1"}

# Range, and whether the addresses just below and just above it are open (None: there are none).
RANGES: tuple[tuple[str, bool | None, bool | None], ...] = (
    ("0.0.0.0/8", None, True),
    ("10.0.0.0/8", True, True),
    ("100.64.0.0/10", True, True),
    ("127.0.0.0/8", True, True),
    ("168.63.129.16/32", True, True),
    ("169.254.0.0/16", True, True),
    ("172.16.0.0/12", True, True),
    ("192.0.0.0/24", True, True),
    ("192.0.2.0/24", True, True),
    ("192.31.196.0/24", True, True),
    ("192.52.193.0/24", True, True),
    ("192.88.99.0/24", True, True),
    ("192.168.0.0/16", True, True),
    ("192.175.48.0/24", True, True),
    ("198.18.0.0/15", True, True),
    ("198.51.100.0/24", True, True),
    ("203.0.113.0/24", True, True),
    ("224.0.0.0/4", True, False),
    ("240.0.0.0/4", False, None),
    ("::/3", None, True),  # all below global unicast, with ::1, ::ffff:0:0/96, 64:ff9b::/96 and 64:ff9b:1::/48
    ("64:ff9b::/96", False, False),
    ("64:ff9b:1::/48", False, False),
    ("100::/64", False, False),
    ("2001::/23", True, True),
    ("2001:db8::/32", True, True),
    ("2002::/16", True, True),
    ("2620:4f:8000::/48", True, True),
    ("3fff::/20", True, True),
    ("4000::/2", True, False),
    ("8000::/1", False, None),
    ("fc00::/7", False, False),
    ("fe80::/10", False, False),
    ("fec0::/10", False, False),
    ("ff00::/8", False, None),
)


def words(text: str) -> list[str]:
    """Cases that are short enough to stand on a line together."""
    return text.split()


PRIVATE_V4 = ("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "168.63.129.16")


def embedded(address: str) -> tuple[str, ...]:
    """An IPv4 address in all the IPv6 addresses that a kernel, a NAT or a tunnel leads to it."""
    value = int(ipaddress.IPv4Address(address))
    forms = {
        "mapped": 0xFFFF << 32 | value,
        "compatible": value,
        "translated": 0xFFFF << 48 | value,
        "NAT64": 0x0064FF9B << 96 | value,
        "local NAT64": 0x0064FF9B0001 << 80 | value,
        "6to4": 0x2002 << 112 | value << 80 | 1,
        "Teredo server": 0x20010000 << 96 | value << 64,
        "Teredo client": 0x20010000 << 96 | 0x08080808 << 64 | (value ^ 0xFFFFFFFF),
        "ISATAP": 0xFE80 << 112 | 0x5EFE << 32 | value,
    }
    return tuple(str(ipaddress.IPv6Address(one)) for one in forms.values())


def edges(*, inside: bool) -> list[str]:
    """Addresses on the boundaries: the last that are refused, or the first that are not."""
    found: list[str] = []
    for text, below, above in RANGES:
        block = ipaddress.ip_network(text)
        if inside:
            found += [str(block[0]), str(block[-1])]
        found += [str(block[0] - 1)] if below is not None and below is not inside else []
        found += [str(block[-1] + 1)] if above is not None and above is not inside else []
    return sorted(set(found))


class Careless(AbstractResolver):
    """A resolver that lets everything pass."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Answer with the one address."""
        entry = ResolveResult(hostname=host, host=self._address, port=port, family=family, proto=0, flags=0)
        return [entry]

    async def close(self) -> None:
        """Nothing to close."""


async def posted(url: str, resolver: AbstractResolver | None = None) -> Reply:
    """Send with nothing allowed."""
    client = Sender(allow=(), allow_http=False, user_agent="relay/test", resolver=resolver)
    async with client:
        return await client.post(url, HEADERS, b"{}", timeout_s=5)


async def by_url(address: str) -> Reply:
    """The address itself stands in the URL."""
    return await posted(f"https://[{address}]/" if ":" in address else f"https://{address}/")


async def by_name(address: str) -> Reply:
    """A hostile name server answers with it, after a public one."""
    public = "2606:4700::1111" if ":" in address else "1.1.1.1"
    return await posted(
        "https://lms.example.org/", GuardedResolver(lookup=lambda _: [*answers(public), *answers(address)])
    )


async def by_socket(address: str) -> Reply:
    """URL and resolver are bypassed."""
    return await posted("https://lms.example.org/", Careless(address))


LAYERS: dict[str, Callable[[str], Any]] = {"url": by_url, "name": by_name, "socket": by_socket}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "address", edges(inside=True) + [form for address in PRIVATE_V4 for form in (address, *embedded(address))]
)
async def test_a_refused_address_passes_no_layer(address: str, layer: str) -> None:
    """svix#2539: both ends of each range, and private IPv4 in every IPv6 disguise: BLOCKED, with a reason."""
    reply = await LAYERS[layer](address)
    assert (reply.outcome, reply.status, reply.first_byte_ms) == (Outcome.BLOCKED, None, None)
    assert reply.detail.startswith("the address ")


@pytest.mark.parametrize("address", edges(inside=False))
def test_the_nearest_open_addresses_pass_every_layer(address: str) -> None:
    """The guard refuses no more than the table: a real socket is made (and nothing is dialled)."""
    url = f"https://[{address}]/" if ":" in address else f"https://{address}/"
    assert check_url(url, allow_http=False).url == url
    family, rest = (socket.AF_INET6, (0, 0)) if ":" in address else (socket.AF_INET, ())
    info = (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 443, *rest))
    open_socket(lambda found: check_address(found, ()), info).close()


SPELLINGS = words(
    "2130706433 017700000001 0x7f000001 0X7F000001 0x7f.0.0.1 0177.0.0.1 0177.0x0.0.01 127.1 127.0.1 0x7f.1 "
    "00000177.0.0.1 127.0.0.01 10.1 0xa.0.0.1 012.1 167772161 2852039166 0xa9fea9fe 0251.0376.0251.0376 169.254.43518 "
    "169.16689662 0xA9.254.0xa9.254 0 0.0 0x0 00 4294967295 0xffffffff ::1 0:0:0:0:0:0:0:1 ::ffff:127.0.0.1 "
    "::ffff:7f00:1 ::FFFF:A9FE:A9FE ::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b:1::10.0.0.1 2002:7f00:1:: "
    "2001:0:808:808::80ff:fffe"
)


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_a_private_literal_is_refused_in_every_spelling_by_the_url_and_by_the_real_resolver(
    spelling: str,
) -> None:
    """Decimal, octal, hexadecimal, short and IPv6 forms: what the C library makes of them is judged too."""
    with pytest.raises(UrlRefusedError, match=r"^the address "):
        check_url(f"https://[{spelling}]/" if ":" in spelling else f"https://{spelling}/", allow_http=False)
    with pytest.raises(AddressBlockedError):
        await GuardedResolver().resolve(spelling, 443)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "①②⑦.⓪.⓪.①", "127。0。0。1", "127.0.0.1"])
async def test_a_name_that_the_system_maps_to_this_machine_is_refused(name: str) -> None:
    """The hosts file, and the Unicode digits and dots that IDNA folds: judged by what they become."""
    with pytest.raises(UrlRefusedError):
        check_url(f"https://{name}/", allow_http=False)
    with pytest.raises((AddressBlockedError, LookupFailedError)):
        await GuardedResolver().resolve(name, 443)


@pytest.mark.parametrize("address", ["fe80::1%lo", "fe80::1%1", "::1%lo", "2606:4700::1%lo"])
async def test_a_scope_id_passes_no_layer_even_if_everything_is_allowed(address: str) -> None:
    """A scope chooses an interface of this machine."""
    allow = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    for shown in (address, address.replace("%", "%25")):
        with pytest.raises(UrlRefusedError):
            check_url(f"https://[{shown}]/", allow_http=False, allow=allow)
    with pytest.raises(AddressBlockedError):
        await GuardedResolver(allow, lookup=lambda _: answers(address)).resolve("lms.example.org", 443)
    for sockaddr in ((address, 443, 0, 0), (address.partition("%")[0], 443, 0, 1)):
        info: Any = (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", sockaddr)
        with pytest.raises(AddressBlockedError):
            open_socket(lambda found: check_address(found, allow), info)


@pytest.mark.parametrize("place", range(3))
async def test_one_private_answer_among_several_is_enough(place: int) -> None:
    """Wherever it stands, and although what is public stands beside it."""
    found = ["1.1.1.1", "2606:4700::1111"]
    found.insert(place, "10.0.0.1")
    reply = await posted("https://lms.example.org/", GuardedResolver(lookup=lambda _: answers(*found)))
    assert (reply.outcome, reply.detail) == (Outcome.BLOCKED, "the address 10.0.0.1 is private")


def changing(*found: str) -> tuple[Callable[[str], Sequence[AddressInfo]], list[str]]:
    """Make a name server that answers differently each time, and the list of its answers."""
    given: list[str] = []

    def look_up(host: str) -> Sequence[AddressInfo]:
        del host
        given.append(found[min(len(given), len(found) - 1)])
        return answers(given[-1])

    return look_up, given


async def test_a_name_that_was_public_at_registration_is_judged_again_at_each_attempt() -> None:
    """What passed as a URL, and once as an answer, is no promise."""
    look_up, given = changing("127.0.0.1", "169.254.169.254")
    resolver = GuardedResolver(LOOPBACK, lookup=look_up, ttl_s=0)
    closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    async with serving(always(closing), host="rebound.example") as server, sender(resolver=resolver) as client:
        check_url(server.url, allow_http=True, allow=LOOPBACK)
        outcomes = [(await client.post(server.url, HEADERS, b"{}", timeout_s=5)).outcome for _ in range(3)]
    assert outcomes == [Outcome.DELIVERED, Outcome.BLOCKED, Outcome.BLOCKED]
    assert (given[:2], server.connections) == (["127.0.0.1", "169.254.169.254"], 1)


async def test_what_was_judged_is_what_is_dialled() -> None:
    """One look-up per connection: there is no second one that could answer otherwise."""
    look_up, given = changing("127.0.0.1", "10.0.0.1")
    resolver = GuardedResolver(LOOPBACK, lookup=look_up, ttl_s=0)
    async with serving(always(OK), host="rebound.example") as server, sender(resolver=resolver) as client:
        outcomes = [(await client.post(server.url, HEADERS, b"{}", timeout_s=5)).outcome for _ in range(2)]
    assert outcomes == [Outcome.DELIVERED] * 2
    assert (given, server.connections) == (["127.0.0.1"], 1)


@pytest.mark.parametrize(
    "url",
    [
        *(f"https://lms.example.org:{port}/" for port in (0, 22, 25, 80, 444, 6379, 8080, 8443, 65535, 65536)),
        "https://127.0.0.1@lms.example.org/",
        "https://lms.example.org@127.0.0.1/",
        "https://lms.example.org:443@127.0.0.1/",
        "https://lms.example.org%40127.0.0.1/",
        "https://lms.example.org\\@127.0.0.1/",
        "https://lms.example.org#@127.0.0.1/",
        "https://127.0.0.1\t.example.org/",
        "https://[::1].example.org/",
        "https://[127.0.0.1]/",
        "https:/127.0.0.1/",
        "https://",
        "http://lms.example.org/",
        "gopher://lms.example.org/",
        "file:///etc/passwd",
        "unix:///run/relay.sock",
    ],
)
async def test_ports_credentials_schemes_and_parser_tricks_are_blocked_before_a_look_up(url: str) -> None:
    """Whatever two parsers could read differently never comes to a name server."""
    look_up, given = changing("1.1.1.1")
    reply = await posted(url, GuardedResolver(lookup=look_up))
    assert (reply.outcome, given) == (Outcome.BLOCKED, [])
    assert (reply.dns_ms, reply.connect_ms, reply.first_byte_ms) == (None, None, None)


def test_the_system_lookup_is_the_real_one() -> None:
    """The spellings above are judged by what this machine's C library says."""
    assert {info[4][0] for info in system_lookup("0x7f.1")} == {"127.0.0.1"}
