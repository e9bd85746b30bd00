"""The egress guard's rules: which addresses and URLs a subscriber may have."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.addresses import Network, UrlRefusedError, check_url, classify, parse_proxy

LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def words(text: str) -> list[str]:
    """Cases that are short enough to stand on a line together."""
    return text.split()


REFUSED_V4 = words(
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 "
    "192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 "
    "198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4"
)
REFUSED_V6 = words(
    "::/128 ::1/128 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 "
    "3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8 ::127.0.0.1/128 4000::/3"
)


@pytest.mark.parametrize("network", REFUSED_V4 + REFUSED_V6)
def test_both_ends_of_a_refused_network_are_refused_with_a_reason(network: str) -> None:
    """No boundary of a special-purpose range is off by one, and each refusal says why."""
    block = ipaddress.ip_network(network)
    assert classify(block[0])
    assert classify(block[-1])


@pytest.mark.parametrize(
    "address",
    words(
        "1.1.1.1 8.8.8.8 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 172.15.255.255 172.32.0.0 192.0.1.0 "
        "198.17.255.255 198.20.0.0 223.255.255.255 168.63.129.15 2001:200:: 2606:4700::1111 2a00:1450::1 "
        "3fff:1000:: ::ffff:8.8.8.8"
    ),
)
def test_public_addresses_next_to_refused_ranges_pass(address: str) -> None:
    """The guard refuses no more than the table says."""
    assert classify(address) is None


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_the_ipv4_address_behind_it(address: ipaddress.IPv4Address) -> None:
    """`::ffff:a.b.c.d` is dialled as a.b.c.d, so it is neither better nor worse."""
    assert classify(ipaddress.IPv6Address(f"::ffff:{address}")) == classify(address)


@given(st.ip_addresses())
def test_nothing_that_python_calls_private_or_special_passes(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """The table is at least as strict as the standard library's."""
    judged = (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address
    special = judged.is_private or judged.is_multicast or judged.is_reserved or judged.is_link_local
    assert classify(address) is not None or not special


def test_allowed_networks_override_the_table_for_mapped_addresses_too() -> None:
    """What the operator allows passes in both spellings, and nothing beside it does."""
    allow = [ipaddress.ip_network("10.1.0.0/16")]
    assert classify("10.1.2.3", allow) is None
    assert classify("::ffff:10.1.2.3", allow) is None
    assert classify("10.2.0.0", allow) == "is private"


@pytest.mark.parametrize("address", ["fe80::1%eth0", "::1%lo", "not an address", "", "127.1", "::1 "])
def test_scope_ids_and_what_does_not_parse_are_refused_even_if_loopback_is_allowed(address: str) -> None:
    """The guard fails closed."""
    assert classify(address, LOOPBACK)


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://lms.example.org", "https://lms.example.org/"),
        ("HTTPS://LMS.Example.ORG:443/Hooks?a=B%2f", "https://lms.example.org/Hooks?a=B%2f"),
        ("https://lms.example.org?x=/@:1", "https://lms.example.org/?x=/@:1"),
        ("https://lms.example.org./a", "https://lms.example.org./a"),
        ("https://134744072/", "https://8.8.8.8/"),
        ("https://[2606:4700:0:0::1111]/", "https://[2606:4700::1111]/"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
    ],
)
def test_a_public_url_is_normalised_once(url: str, sent: str) -> None:
    """What is checked is what is sent: one spelling, and checking it again changes nothing."""
    assert check_url(url, allow_http=False).url == sent
    assert check_url(sent, allow_http=False).url == sent


@pytest.mark.parametrize(
    "host",
    words(
        "127.0.0.1 2130706433 0x7f000001 0X7F.0.0.1 0177.0.0.1 017700000001 127.1 127.0.1 127.0.0.1. 0 0x 10.1 "
        "0xa9fea9fe 169.254.43518 [::1] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:0:0:1] [fe80::1%25eth0] "
        "[64:ff9b::7f00:1]"
    ),
)
def test_a_private_literal_is_refused_in_every_spelling(host: str) -> None:
    """What the C library would read as a private address is refused before anything is dialled."""
    with pytest.raises(UrlRefusedError, match=r"^the address "):
        check_url(f"https://{host}/", allow_http=False)


@pytest.mark.parametrize("host", ["256.1.1.1", "1.2.3.4.5", "8.8.8.8.0", "08.1.1.1", "1.2.x.4", "a.1", "4294967296"])
def test_a_host_that_ends_in_a_number_must_be_an_ipv4_address(host: str) -> None:
    """Half-numeric hosts, which parsers read differently, are refused."""
    with pytest.raises(UrlRefusedError):
        check_url(f"https://{host}/", allow_http=False)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://lms.example.org/", "use https"),
        ("ftp://lms.example.org/", "https://"),
        ("//lms.example.org/", "https://"),
        ("https:lms.example.org/", "https://"),
        ("https:///a", "host"),
        ("https://lms.example.org:8443/", "port 8443 is refused: use 443"),
        ("https://lms.example.org:0/", "port 0"),
        ("https://lms.example.org:99999/", "port 99999"),
        ("https://lms.example.org:/", "port"),
        ("https://lms.example.org:4a/", "port"),
        ("https://user:hunter2@lms.example.org/", "password"),
        ("https://lms.example.org@evil.example/", "password"),
        ("https://lms.example.org/#a", "fragment"),
        ("https://lms.example.org\\@evil.example/", "backslash"),
        ("https://lms.example.org/a b", "space"),
        ("https://lms.example.org/\r\nX: y", "control"),
        ("https://lms.example.org/\x00", "control"),
        ("\thttps://lms.example.org/", "control"),
        ("https://bücher.example/", "punycode"),
        ("https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", "ASCII"),
        ("https://lms%2eexample.org/", "name"),
        ("https://lms..example.org/", "name"),
        ("https://-lms.example.org/", "name"),
        ("https://[::1/", "host"),
        ("https://[zz]/", "IPv6"),
        ("https://" + "a" * 64 + ".example/", "name"),
        ("https://lms.example.org/" + "a" * 2048, "2048"),
        ("https://receiver/", "full name"),
        *((f"https://a{suffix}/", "local network") for suffix in (".local", ".internal", ".svc", ".onion")),
        *((f"https://a{suffix}/", "local network") for suffix in (".localhost", ".home.arpa", ".svc.cluster.local")),
        ("https://localhost/", "local network"),
        ("https://LOCALHOST./", "local network"),
    ],
)
def test_a_refusal_says_what_is_wrong_without_credentials(url: str, reason: str) -> None:
    """Every rule of the guard refuses with a message that helps and repeats no secret."""
    with pytest.raises(UrlRefusedError, match=reason) as caught:
        check_url(url, allow_http=False)
    assert "hunter2" not in str(caught.value)


def test_http_and_its_port_pass_only_if_configured() -> None:
    """`allow_http` permits http on port 80 and https on 443, and no other port."""
    assert check_url("http://lms.example.org/", allow_http=True).url == "http://lms.example.org/"
    with pytest.raises(UrlRefusedError, match="8080"):
        check_url("http://lms.example.org:8080/", allow_http=True)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/", "http://localhost:9000/", "http://[::1]:9000/"])
def test_the_sandbox_receiver_passes_when_loopback_is_allowed(url: str) -> None:
    """An allow list opens its own addresses, local names and every port."""
    assert check_url(url, allow_http=True, allow=LOOPBACK).url == url


def test_an_allow_list_does_not_open_other_private_literals() -> None:
    """Allowing loopback says nothing about the metadata service."""
    with pytest.raises(UrlRefusedError, match="metadata"):
        check_url("http://169.254.169.254/latest/", allow_http=True, allow=LOOPBACK)


@given(st.text(max_size=60))
def test_any_text_is_either_refused_or_comes_back_normalised(text: str) -> None:
    """No input makes the guard raise anything else, and a second check agrees with the first."""
    try:
        checked = check_url("https://" + text, allow_http=False)
    except UrlRefusedError:
        return
    assert check_url(checked.url, allow_http=False) == checked


@pytest.mark.parametrize(
    ("url", "host", "port", "authorization"),
    [
        ("http://squid:3128", "squid", 3128, None),
        ("HTTP://Squid.Internal/", "squid.internal", 80, None),
        ("http://10.0.0.1:3128", "10.0.0.1", 3128, None),
        ("http://0x7f.1:3128", "127.0.0.1", 3128, None),
        ("http://[FD00::1]:3128", "fd00::1", 3128, None),
        ("http://relay:p%40ss%2F@squid:3128", "squid", 3128, "Basic cmVsYXk6cEBzcy8="),
        ("http://relay:a@b@squid:3128", "squid", 3128, "Basic cmVsYXk6YUBi"),
        ("http://relay:p%C3%A4ss@squid:3128", "squid", 3128, "Basic cmVsYXk6cMOkc3M="),
    ],
)
def test_a_proxy_may_live_anywhere_and_have_credentials(
    url: str, host: str, port: int, authorization: str | None
) -> None:
    """The operator chose it, so private addresses and short names pass; its password is percent-decoded UTF-8."""
    proxy = parse_proxy(url)
    assert (proxy.host, proxy.port, proxy.authorization) == (host, port, authorization)
    assert authorization is None or authorization not in repr(proxy)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "squid:3128",
        "https://relay:hunter2@squid:3128",
        "socks5://relay:hunter2@squid:1080",
        "http://relay:hunter2@",
        "http://relay:hunter2",
        "http://relay:99999",
        "http://relay:hunter2@squid:3128/path",
        "http://relay:hunter/2@squid:3128",
        "http://relay:hunter2@squid:3128?a",
        "http://relay:hunter2@squid:3128#a",
        "http://relay:hunter2@squid:0",
        "http://relay:hunter2@squid:3128\r\n",
        "http://relay:hunter2@[fe80::1%25eth0]:3128",
        "http://relay:hunter2@sq uid",
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(url: str) -> None:
    """Only http://, without a path; the message repeats nothing that may be a secret."""
    with pytest.raises(UrlRefusedError) as caught:
        parse_proxy(url)
    assert not any(secret in str(caught.value) for secret in ("hunter", "99999"))
