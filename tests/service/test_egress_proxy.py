"""The egress proxy: everything goes through it, nothing goes round it, and its failures are not the subscriber's."""

import asyncio
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientConnectorError, ClientRequest, ClientTimeout
from yarl import URL

from relay.core.addresses import EVERYWHERE, parse_proxy
from relay.core.errors import ConfigError
from relay.core.outcome import Outcome
from relay.egress import GuardedResolver, Sender
from relay.egress.resolver import AddressBlockedError, LookupFailedError
from relay.egress.tunnel import ProxyConnector, ProxyResolver
from relay.settings import effective, load
from tests.service.egress_rig import answers, certificate, proxying
from tests.service.raw_server import LOOPBACK, OK, Behaviour, Peer, always, sender, serving, until

HEADERS = {"webhook-id": "evt_1", "content-type": "application/json"}
AUTHORIZATION = b"Proxy-Authorization: Basic cmVsYXk6Y8OkbmFyeS0x"


def through(address: str, **options: object) -> Sender:
    """Make a sender that has no allow list, with a proxy that wants credentials."""
    arguments: dict[str, object] = {"allow": (), "allow_http": True, "user_agent": "relay/test"} | options
    return Sender(**arguments, proxy=f"http://relay:c%C3%A4nary-1@{address}")  # type: ignore[arg-type]


async def hang_up(peer: Peer) -> None:
    """Take the CONNECT and leave."""
    await peer.reader.readuntil(b"\r\n\r\n")


def shouting(answer: bytes) -> Behaviour:
    """Say something that is no answer to CONNECT."""

    async def behave(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(answer)
        await peer.gone()

    return behave


async def test_https_goes_through_connect_with_tls_from_end_to_end(tmp_path: Path) -> None:
    """The proxy learns the name, port and its own credentials; the webhook and its headers are the subscriber's."""
    heads: list[bytes] = []

    async def behave(peer: Peer) -> None:
        while True:
            heads.append((await peer.request())[0])
            await peer.send(OK)

    server_tls, client_tls = certificate(tmp_path, "lms.example.org")
    async with serving(behave, tls=server_tls) as server, proxying(server) as proxy:
        async with through(proxy.address, tls=client_tls) as client:
            for _ in range(2):
                reply = await client.post("https://lms.example.org/hooks?key=hunter2", HEADERS, b"{}", timeout_s=5)
                assert (reply.outcome, reply.status) == (Outcome.DELIVERED, 200)
        assert proxy.lines == [b"CONNECT lms.example.org:443 HTTP/1.1"]
        assert set(proxy.heads[0].split(b"\r\n")[1:-2]) == {
            b"Host: lms.example.org:443",
            b"User-Agent: relay/test",
            AUTHORIZATION,
        }
        assert not any(secret in proxy.carried for secret in (b"hunter2", b"evt_1", b"webhook-id"))
    assert [head.partition(b"\r\n")[0] for head in heads] == [b"POST /hooks?key=hunter2 HTTP/1.1"] * 2
    assert b"Host: lms.example.org\r\n" in heads[0]
    assert b"proxy-" not in heads[0].lower()


@pytest.mark.parametrize("host", ["lms.example.org.", "LMS.example.org"])
async def test_the_certificate_is_checked_against_the_plain_name(tmp_path: Path, host: str) -> None:
    """A trailing dot or capitals in the URL are no part of what a certificate says."""
    server_tls, client_tls = certificate(tmp_path, "lms.example.org")
    async with (
        serving(always(OK), tls=server_tls) as server,
        proxying(server) as proxy,
        through(proxy.address, tls=client_tls) as client,
    ):
        reply = await client.post(f"https://{host}/", HEADERS, b"{}", timeout_s=5)
    assert reply.outcome is Outcome.DELIVERED


async def test_a_certificate_for_another_name_is_refused_inside_the_tunnel(tmp_path: Path) -> None:
    """A proxy that leads elsewhere gets a failed handshake and no request."""
    server_tls, client_tls = certificate(tmp_path, "lms.example.org")
    async with serving(always(OK), tls=server_tls) as server, proxying(server) as proxy:
        async with through(proxy.address, tls=client_tls) as client:
            reply = await client.post("https://www.example.org/", HEADERS, b"{}", timeout_s=5)
        assert reply.outcome is Outcome.TLS
        await until(lambda: proxy.server.ended == 1)


async def test_plain_http_is_asked_of_the_proxy_in_absolute_form() -> None:
    """The URL is sent byte for byte, the credentials go to the proxy alone, and the connection is kept."""
    heads: list[bytes] = []

    async def behave(peer: Peer) -> None:
        while True:
            heads.append((await peer.request())[0])
            await peer.send(OK)

    forged = {"Proxy-Authorization": "Basic forged", "Host": "other.example"}
    async with serving(behave) as server, through(urlsplit(server.url).netloc) as client:
        for _ in range(2):
            reply = await client.post("http://lms.example.org/a%2Fb?c=%c3", HEADERS | forged, b"{}", timeout_s=5)
            assert reply.outcome is Outcome.DELIVERED
        assert server.connections == 1
    lines = heads[1].split(b"\r\n")
    assert lines[0] == b"POST http://lms.example.org/a%2Fb?c=%c3 HTTP/1.1"
    assert {b"Host: lms.example.org", AUTHORIZATION} <= set(lines)
    assert b"forged" not in heads[1]
    assert b"other.example" not in heads[1]


async def test_subscribers_do_not_share_connections_to_the_proxy() -> None:
    """What one plain-http subscriber answers is never read as another's answer."""
    async with serving(always(OK)) as server, through(urlsplit(server.url).netloc) as client:
        for name in ("a", "b", "a", "b"):
            await client.post(f"http://{name}.example/", HEADERS, b"{}", timeout_s=5)
        assert server.connections == 2


@pytest.mark.parametrize("status", [101, 301, 403, 404, 407, 410, 429, 500, 502, 503, 504])
async def test_a_proxy_that_refuses_is_our_failure(status: int) -> None:
    """Its status is not the subscriber's: a proxy's 410 or 429 can neither disable nor pause anybody."""
    refusal = f"HTTP/1.1 {status} No\r\nretry-after: 99\r\ncontent-length: 4\r\n\r\nbody".encode()
    async with serving(shouting(refusal)) as server, through(urlsplit(server.url).netloc) as client:
        reply = await client.post("https://lms.example.org/", HEADERS, b"{}", timeout_s=5)
        await until(lambda: server.ended == 1)
    assert (reply.outcome, reply.status, reply.retry_after_s, reply.body) == (Outcome.PROXY, None, None, b"")
    assert reply.detail == f"the proxy answered HTTP {status} to CONNECT"


@pytest.mark.parametrize("established", [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 299 X\r\ncontent-length: 0\r\n\r\n"])
async def test_any_2xx_opens_the_tunnel(tmp_path: Path, established: bytes) -> None:
    """RFC 9110, 9.3.6: whatever its headers say, what follows is the tunnel."""
    server_tls, client_tls = certificate(tmp_path, "lms.example.org")
    async with (
        serving(always(OK), tls=server_tls) as server,
        proxying(server, established=established) as proxy,
        through(proxy.address, tls=client_tls) as client,
    ):
        reply = await client.post("https://lms.example.org/", HEADERS, b"{}", timeout_s=5)
    assert reply.outcome is Outcome.DELIVERED


async def test_407_is_the_proxys_only_where_the_proxy_can_say_it(tmp_path: Path) -> None:
    """For plain http it is our failure; inside a tunnel, or without a proxy, a subscriber said it."""
    answer = b"HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n"
    server_tls, client_tls = certificate(tmp_path, "lms.example.org")
    async with serving(always(answer)) as server, through(urlsplit(server.url).netloc) as client, sender() as direct:
        plain = await client.post("http://lms.example.org/", HEADERS, b"{}", timeout_s=5)
        own = await direct.post(server.url, HEADERS, b"{}", timeout_s=5)
    async with (
        serving(always(answer), tls=server_tls) as server,
        proxying(server) as proxy,
        through(proxy.address, tls=client_tls) as client,
    ):
        tunnelled = await client.post("https://lms.example.org/", HEADERS, b"{}", timeout_s=5)
    assert (plain.outcome, plain.status) == (Outcome.PROXY, None)
    assert (tunnelled.outcome, tunnelled.status) == (own.outcome, own.status) == (Outcome.STATUS, 407)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_down_is_our_failure(scheme: str) -> None:
    """Nobody listens there."""
    async with serving(always(OK)) as server:
        address = urlsplit(server.url).netloc
    async with through(address) as client:
        reply = await client.post(f"{scheme}://lms.example.org/", HEADERS, b"{}", timeout_s=5)
    assert (reply.outcome, reply.detail) == (Outcome.PROXY, "cannot connect to the proxy (ECONNREFUSED)")


async def test_a_proxy_whose_name_does_not_resolve_is_our_failure() -> None:
    """At once, or when the attempt's time is over."""
    gate = threading.Event()
    unknown = GuardedResolver(EVERYWHERE, lookup=lambda _: ())
    hanging = GuardedResolver(EVERYWHERE, lookup=lambda _: answers("127.0.0.1") if gate.wait(10) else ())
    async with through("squid:3128", resolver=unknown) as one, through("squid:3128", resolver=hanging) as other:
        gone = await one.post("https://lms.example.org/", HEADERS, b"{}", timeout_s=5)
        late = await other.post("https://lms.example.org/", HEADERS, b"{}", timeout_s=0.05)
        gate.set()
        await until(lambda: not hanging._running)
    assert (gone.outcome, gone.detail) == (Outcome.PROXY, "the proxy's name does not resolve")
    assert (late.outcome, late.detail) == (Outcome.PROXY, "cannot connect to the proxy in time")


@pytest.mark.parametrize(
    "behaviour", [hang_up, shouting(b"SSH-2.0-OpenSSH_9.6\r\n"), shouting(b"HTTP/1.1 103 Early\r\n\r\n" * 50)]
)
async def test_a_proxy_that_does_not_answer_properly_is_our_failure(behaviour: Behaviour) -> None:
    """It hangs up, speaks something else, or never comes to the point."""
    async with serving(behaviour) as server, through(urlsplit(server.url).netloc) as client:
        reply = await client.post("https://lms.example.org/", HEADERS, b"{}", timeout_s=5)
        await until(lambda: server.ended == 1)
    assert (reply.outcome, reply.detail) == (Outcome.PROXY, "the proxy closed the connection or does not speak HTTP")


async def test_a_tunnel_that_is_not_opened_in_time_is_a_timeout_and_closed() -> None:
    """The proxy is there and tries: that it cannot reach the subscriber is most likely the subscriber's."""
    async with serving(shouting(b"")) as server, through(urlsplit(server.url).netloc) as client:
        reply = await client.post("https://lms.example.org/", HEADERS, b"{}", timeout_s=0.05)
        await until(lambda: server.ended == 1)
    assert reply.outcome is Outcome.TIMEOUT


async def test_a_tunnel_that_breaks_after_it_was_opened_is_the_subscribers_failure() -> None:
    """The proxy did its part."""

    async def behave(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.reset()

    async with serving(behave) as server, through(urlsplit(server.url).netloc) as client:
        reply = await client.post("https://lms.example.org/", HEADERS, b"{}", timeout_s=5)
    assert reply.outcome in (Outcome.CONNECT, Outcome.TLS)


async def test_a_cancellation_while_the_tunnel_is_opened_passes_through_and_closes() -> None:
    """A drain that gives up leaves no socket behind."""
    async with serving(shouting(b"")) as server, through(urlsplit(server.url).netloc) as client:
        task = asyncio.create_task(client.post("https://lms.example.org/", HEADERS, b"{}", timeout_s=30))
        await until(lambda: server.connections == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: server.ended == 1)


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/",
        "https://0xa9fea9fe/",
        "https://[::1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://localhost/",
        "https://vault.internal/",
        "https://kubernetes.default.svc/",
        "https://lms.example.org:22/",
        "https://user:hunter2@lms.example.org/",
    ],
)
async def test_a_proxy_opens_no_url_that_is_refused_without_one(url: str) -> None:
    """Literals that are not public, reserved names, ports and credentials: nothing reaches the proxy."""
    async with serving(always(OK)) as server, through(urlsplit(server.url).netloc) as client:
        reply = await client.post(url, HEADERS, b"{}", timeout_s=5)
        assert (reply.outcome, server.connections) == (Outcome.BLOCKED, 0)
    assert "hunter2" not in reply.detail


async def test_nothing_but_the_proxy_can_be_dialled() -> None:
    """Neither another name, another address nor another port, even if everything above were bypassed."""
    proxy = parse_proxy("http://squid.internal:3128")
    resolver = ProxyResolver(proxy, GuardedResolver(EVERYWHERE, lookup=lambda _: answers("127.0.0.1")))
    with pytest.raises(AddressBlockedError, match="not the proxy's"):
        await resolver.resolve("lms.example.org", 443)
    with pytest.raises(AddressBlockedError, match="not the proxy's"):
        resolver.check(("127.0.0.1", 3128))  # not resolved yet
    await resolver.resolve("squid.internal", 3128)
    resolver.check(("127.0.0.1", 3128))
    for other in (("127.0.0.1", 443), ("8.8.8.8", 3128)):
        with pytest.raises(AddressBlockedError, match="not the proxy's"):
            resolver.check(other)


async def test_a_socket_to_anything_but_the_proxy_is_not_made() -> None:
    """The last layer, with a real socket: a server on the proxy's own machine is out of reach too."""
    loop = asyncio.get_running_loop()
    async with serving(always(OK)) as server:
        connector = ProxyConnector(parse_proxy("http://127.0.0.1:1"), None, agent="relay/test", connections=1, tls=None)
        with pytest.raises(ClientConnectorError) as caught:
            await connector._create_direct_connection(
                ClientRequest("POST", URL(server.url), loop=loop), [], ClientTimeout(total=None)
            )
        await connector.close()
        assert isinstance(caught.value.os_error, AddressBlockedError)
        assert server.connections == 0


async def test_a_subscribers_name_is_never_resolved_here() -> None:
    """The resolver is asked for the proxy's name only; a scope id in its answer is refused as ever."""
    asked: list[str] = []

    def look_up(host: str) -> object:
        asked.append(host)
        return answers("127.0.0.1")

    async with serving(shouting(b"HTTP/1.1 403 X\r\n\r\n")) as server:
        port = urlsplit(server.url).port
        resolver = GuardedResolver(EVERYWHERE, lookup=look_up)  # type: ignore[arg-type]
        async with through(f"squid.internal:{port}", resolver=resolver) as client:
            await client.post("https://lms.example.org/", HEADERS, b"{}", timeout_s=5)
    assert asked == ["squid.internal"]
    with pytest.raises((AddressBlockedError, LookupFailedError)):
        await GuardedResolver(EVERYWHERE, lookup=lambda _: answers("fe80::1%lo")).resolve("squid.internal", 1)


async def test_an_ipv6_subscriber_keeps_its_brackets() -> None:
    """A literal is asked for as CONNECT has it."""
    async with proxying(None) as proxy, through(proxy.address) as client:
        await client.post("https://[2606:4700:0::1111]/", HEADERS, b"{}", timeout_s=5)
        assert proxy.lines == [b"CONNECT [2606:4700::1111]:443 HTTP/1.1"]


async def test_an_allow_list_works_with_a_proxy_too() -> None:
    """What the operator allows may be asked of the proxy, on any port."""
    async with proxying(None) as proxy, through(proxy.address, allow=LOOPBACK) as client:
        await client.post("https://127.0.0.1:8443/", HEADERS, b"{}", timeout_s=5)
        assert proxy.lines == [b"CONNECT 127.0.0.1:8443 HTTP/1.1"]


def test_the_setting_holds_a_secret_and_refuses_without_repeating_it() -> None:
    """`RELAY_EGRESS__PROXY` is masked where settings are shown, and in every error about it."""
    settings = load(None, {"RELAY_EGRESS__PROXY": "http://relay:canary@squid:3128"})
    assert settings.egress.proxy is not None
    assert settings.egress.proxy.get_secret_value() == "http://relay:canary@squid:3128"
    assert "canary" not in str(effective(settings)) + repr(settings)
    for wrong in ("https://relay:canary@squid", "relay:canary@squid:3128", "http://relay:canary", "http://a:canary@/"):
        with pytest.raises(ConfigError, match="RELAY_EGRESS__PROXY: ") as caught:
            load(None, {"RELAY_EGRESS__PROXY": wrong})
        assert "canary" not in str(caught.value)
