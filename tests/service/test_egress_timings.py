"""Where an attempt's time went: each phase is told where it happened, and only there."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from relay.core.outcome import Outcome, Reply
from relay.egress import GuardedResolver, Sender
from relay.egress.resolver import AddressInfo
from tests.service.egress_rig import answers, certificate
from tests.service.raw_server import LOOPBACK, OK, Peer, always, once, sender, serving

HEADERS = {"webhook-id": "evt_1"}


def phases(reply: Reply) -> tuple[bool, bool, bool]:
    """Say which phases were timed, and that none took longer than the whole."""
    timed = (reply.dns_ms, reply.connect_ms, reply.first_byte_ms)
    assert sum(one or 0 for one in timed) <= reply.duration_ms + 3  # each is rounded
    return (reply.dns_ms is not None, reply.connect_ms is not None, reply.first_byte_ms is not None)


def slowly(host: str) -> Sequence[AddressInfo]:
    """Answer after a while."""
    del host
    time.sleep(0.03)
    return answers("127.0.0.1")


async def test_each_phase_of_a_new_connection_is_timed_and_none_is_on_a_kept_one(tmp_path: Path) -> None:
    """The look-up, TCP and TLS, and the wait for the answer's first byte, told apart."""

    async def behave(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(0.04)
            await peer.send(OK)

    server_tls, client_tls = certificate(tmp_path, "lms.example.org")
    resolver = GuardedResolver(LOOPBACK, lookup=slowly)
    async with (
        serving(behave, tls=server_tls, host="lms.example.org") as server,
        sender(resolver=resolver, tls=client_tls) as client,
    ):
        first, second = [await client.post(server.url, HEADERS, b"{}", timeout_s=5) for _ in range(2)]
    assert (first.outcome, second.outcome) == (Outcome.DELIVERED, Outcome.DELIVERED)
    assert (phases(first), phases(second)) == ((True, True, True), (False, False, True))
    assert (first.dns_ms or 0) >= 29
    assert (first.first_byte_ms or 0) >= 39
    assert (second.first_byte_ms or 0) >= 39


async def test_a_literal_has_no_look_up() -> None:
    """Nothing was resolved, so nothing is said about it."""
    async with serving(always(OK)) as server, sender() as client:
        reply = await client.post(server.url, HEADERS, b"{}", timeout_s=5)
    assert phases(reply) == (False, True, True)


async def test_a_failure_tells_the_phase_in_which_it_happened_and_none_after_it() -> None:
    """Blocked, unresolved, refused, and unanswered attempts end where they end."""
    slow = GuardedResolver(LOOPBACK, lookup=slowly)
    mixed = GuardedResolver(LOOPBACK, lookup=lambda _: answers("10.0.0.1"))
    async with serving(once(b"")) as server, sender(resolver=slow) as client, sender(resolver=mixed) as wary:
        blocked = await client.post("http://10.0.0.1/", HEADERS, b"{}", timeout_s=5)
        forbidden = await wary.post("http://a.example/", HEADERS, b"{}", timeout_s=5)
        unresolved = await client.post("http://a.example/", HEADERS, b"{}", timeout_s=0.01)
        unanswered = await client.post(server.url, HEADERS, b"{}", timeout_s=0.05)
        url = server.url
    async with sender() as client:
        refused = await client.post(url, HEADERS, b"{}", timeout_s=5)
    assert [one.outcome for one in (blocked, forbidden, unresolved, unanswered, refused)] == [
        Outcome.BLOCKED,
        Outcome.BLOCKED,
        Outcome.TIMEOUT,
        Outcome.TIMEOUT,
        Outcome.CONNECT,
    ]
    assert phases(blocked) == (False, False, False)
    assert phases(forbidden) == phases(unresolved) == (True, False, False)
    assert phases(unanswered) == phases(refused) == (False, True, False)


async def test_a_second_connection_after_a_stale_one_is_the_one_that_is_timed() -> None:
    """The dead connection's phases are forgotten with it."""

    async def behave(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()

    async with serving(behave) as server, sender() as client:
        await client.post(server.url, HEADERS, b"{}", timeout_s=5)
        reply = await client.post(server.url, HEADERS, b"{}", timeout_s=5)
    assert (reply.outcome, server.connections) == (Outcome.DELIVERED, 2)
    assert phases(reply) == (False, True, True)


async def test_the_first_byte_counts_even_if_no_answer_is_complete() -> None:
    """A subscriber that begins and stalls is told from one that never speaks."""
    async with serving(once(b"HTTP/1.1 200")) as server, sender() as client:
        reply = await client.post(server.url, HEADERS, b"{}", timeout_s=0.05)
    assert reply.outcome is Outcome.TIMEOUT
    assert phases(reply) == (False, True, True)


async def test_waiting_for_a_connection_is_no_phase_of_the_subscribers() -> None:
    """A full pool delays the whole, and nothing that is told about the subscriber."""

    async def behave(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(0.04)
            await peer.send(OK)

    client = Sender(allow=LOOPBACK, allow_http=True, user_agent="relay/test", connections=1)
    async with serving(behave) as server, client:
        replies = await asyncio.gather(*(client.post(server.url, HEADERS, b"{}", timeout_s=5) for _ in range(2)))
    first, second = sorted(replies, key=lambda one: one.duration_ms)
    assert (phases(first), phases(second)) == ((False, True, True), (False, False, True))
    assert second.duration_ms >= (second.first_byte_ms or 0) + 39
