"""The egress guard at work: names, addresses and certificates that must not be trusted."""

import asyncio
import ipaddress
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.core.outcome import Outcome
from relay.egress import GuardedResolver, Sender
from relay.egress.resolver import AddressBlockedError, AddressInfo, Lookup, LookupFailedError
from tests.service.egress_rig import answers, certificate
from tests.service.raw_server import LOOPBACK, OK, Peer, always, once, sender, serving, until

HEADERS = {"webhook-id": "evt_1"}


async def test_a_name_that_does_not_resolve_is_a_dns_failure() -> None:
    """An unknown name is the subscriber's failure."""

    def unknown(host: str) -> Sequence[AddressInfo]:
        raise socket.gaierror(socket.EAI_NONAME, host)

    async with sender(resolver=GuardedResolver(LOOPBACK, lookup=unknown)) as client:
        reply = await client.post("https://gone.example/", HEADERS, b"{}", timeout_s=5)
    assert (reply.outcome, reply.detail) == (Outcome.DNS, "the name does not resolve")


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/",
        "http://0xa9fea9fe/latest",
        "http://[::ffff:10.0.0.1]/",
        "http://[fe80::1%25lo]/",
        "ftp://a.b/",
    ],
)
async def test_a_blocked_literal_is_never_dialled(url: str) -> None:
    """The URL's layer refuses it in every spelling."""
    async with sender() as client:
        assert (await client.post(url, HEADERS, b"{}", timeout_s=5)).outcome is Outcome.BLOCKED


@pytest.mark.parametrize("found", [("10.0.0.1",), ("127.0.0.1", "10.0.0.1"), ("127.0.0.1", "::1"), ("fe80::1%lo",)])
async def test_a_name_is_blocked_if_any_of_its_answers_is(found: tuple[str, ...]) -> None:
    """One refused answer is enough, and the allowed one beside it is not dialled."""
    async with serving(always(OK), host="mixed.example") as server:
        resolver = GuardedResolver(LOOPBACK, lookup=lambda _: answers(*found))
        async with sender(resolver=resolver) as client:
            reply = await client.post(server.url, HEADERS, b"{}", timeout_s=5)
        assert (reply.outcome, server.connections) == (Outcome.BLOCKED, 0)
    assert "hunter2" not in reply.detail


async def test_the_socket_layer_judges_the_address_that_is_dialled() -> None:
    """Even if URL and resolver were bypassed, the socket is not made."""

    class Careless(GuardedResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_UNSPEC) -> Any:
            del family
            entry = {
                "hostname": host,
                "host": "127.0.0.1",
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": 0,
            }
            return [entry]

    async with serving(always(OK), host="rebound.example") as server:
        client = Sender(
            allow=[ipaddress.ip_network("10.0.0.0/8")], allow_http=True, user_agent="a", resolver=Careless()
        )
        async with client:
            reply = await client.post(server.url, HEADERS, b"{}", timeout_s=5)
        assert (reply.outcome, server.connections) == (Outcome.BLOCKED, 0)
    assert reply.detail == "the address 127.0.0.1 is loopback"


async def test_a_rebound_name_is_judged_again() -> None:
    """An answer that turns private later is refused when the name is resolved again."""
    found = [answers("127.0.0.1"), answers("10.0.0.1")]
    closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    resolver = GuardedResolver(LOOPBACK, lookup=lambda _: found.pop(0), ttl_s=0)
    async with serving(always(closing), host="rebound.example") as server, sender(resolver=resolver) as client:
        outcomes = [(await client.post(server.url, HEADERS, b"{}", timeout_s=5)).outcome for _ in range(2)]
    assert outcomes == [Outcome.DELIVERED, Outcome.BLOCKED]
    assert server.connections == 1


def slow_or(found: Sequence[AddressInfo], gate: threading.Event) -> tuple[Lookup, list[str]]:
    """Make a look-up in which names that begin with `dead` hang until the gate opens, and the list of its questions."""
    asked: list[str] = []

    def look_up(host: str) -> Sequence[AddressInfo]:
        asked.append(host)
        if host.startswith("dead"):
            gate.wait(10)
        return found

    return look_up, asked


async def test_dead_names_do_not_stall_healthy_ones() -> None:
    """Names known as slow wait among themselves; each holds one thread at most, and healthy names answer at once."""
    gate = threading.Event()
    look_up, asked = slow_or(answers("127.0.0.1"), gate)
    resolver = GuardedResolver(LOOPBACK, lookup=look_up, patience_s=0.05, slow_s=0.01, threads=4, slow_threads=1)
    try:
        with pytest.raises(LookupFailedError):
            await resolver.resolve("dead.example", 80)
        gate.set()
        await until(lambda: not resolver._running)
        gate.clear()
        resolver._known.clear()
        resolver._slow.update(f"dead{number}.example" for number in range(20))
        dead = [asyncio.create_task(resolver.resolve(f"dead{number}.example", 80)) for number in range(20)]
        dead += [asyncio.create_task(resolver.resolve("dead1.example", 80)) for _ in range(5)]
        await asyncio.sleep(0)
        started = time.monotonic()
        healthy = await asyncio.gather(*(resolver.resolve(f"healthy{number}.example", 80) for number in range(20)))
        assert time.monotonic() - started < 0.5
        results = await asyncio.gather(*dead, return_exceptions=True)
    finally:
        gate.set()
    assert {one[0]["host"] for one in healthy} == {"127.0.0.1"}
    assert {type(one) for one in results} == {LookupFailedError}
    assert len([host for host in asked if host.startswith("dead")]) == 2
    await until(lambda: not resolver._running)


async def test_a_slow_name_that_answers_promptly_again_leaves_the_slow_lane() -> None:
    """Slowness is forgiven by the first prompt answer, and answers are kept for their time."""
    look_up, asked = slow_or(answers("127.0.0.1"), threading.Event())
    resolver = GuardedResolver(LOOPBACK, lookup=look_up)
    resolver._slow.add("a.example")
    await resolver.resolve("a.example", 80)
    await resolver.resolve("a.example", 443)
    assert (resolver._slow, asked) == (set(), ["a.example"])


async def test_a_look_up_that_takes_too_long_is_a_dns_failure_within_its_bound() -> None:
    """A hanging name server costs its own subscriber `patience_s` and nothing more."""
    gate = threading.Event()
    resolver = GuardedResolver(LOOPBACK, lookup=slow_or((), gate)[0], patience_s=0.05)
    started = time.monotonic()
    async with sender(resolver=resolver) as client:
        reply = await client.post("https://dead.example/", HEADERS, b"{}", timeout_s=5)
    gate.set()
    assert (reply.outcome, reply.detail) == (Outcome.DNS, "the name was not resolved in time")
    assert time.monotonic() - started < 1
    await until(lambda: not resolver._running)


async def test_the_resolver_refuses_scope_ids_from_the_system() -> None:
    """A scoped answer carries its scope beside the address."""
    scoped = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2606:4700::1", 0, 0, 2))]
    with pytest.raises(AddressBlockedError, match="scope"):
        await GuardedResolver(lookup=lambda _: scoped).resolve("a.example", 80)


async def test_tls_keeps_the_name_for_sni_and_verification(tmp_path: Path) -> None:
    """The connection goes to the judged address, the certificate is checked against the name."""
    server_tls, client_tls = certificate(tmp_path, "lms.example.org")
    resolver = GuardedResolver(LOOPBACK, lookup=lambda _: answers("127.0.0.1"))
    async with (
        serving(always(OK), tls=server_tls, host="lms.example.org") as server,
        sender(resolver=resolver, tls=client_tls) as client,
    ):
        good = await client.post(server.url, HEADERS, b"{}", timeout_s=5)
        wrong = await client.post(server.url.replace("lms.", "www."), HEADERS, b"{}", timeout_s=5)
    assert (good.outcome, wrong.outcome) == (Outcome.DELIVERED, Outcome.TLS)
    assert "certificate" in wrong.detail


async def test_an_untrusted_certificate_is_a_tls_failure_and_nothing_is_sent(tmp_path: Path) -> None:
    """Self-signed is refused, never downgraded."""
    requests: list[bytes] = []

    async def behave(peer: Peer) -> None:
        requests.append((await peer.request())[0])

    server_tls, _ = certificate(tmp_path, "localhost")
    async with serving(behave, tls=server_tls, host="localhost") as server, sender() as client:
        reply = await client.post(server.url, HEADERS, b"{}", timeout_s=5)
    assert (reply.outcome, requests) == (Outcome.TLS, [])


async def test_a_server_without_tls_is_a_tls_failure() -> None:
    """Plain HTTP behind an https URL is not accepted."""
    async with serving(once(OK)) as server, sender() as client:
        reply = await client.post(server.url.replace("http:", "https:"), HEADERS, b"{}", timeout_s=0.5)
    assert reply.outcome in (Outcome.TLS, Outcome.TIMEOUT)
