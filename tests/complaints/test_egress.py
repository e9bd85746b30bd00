"""What users of other webhook senders complain of in public issue trackers: where a subscriber may live.

svix/svix-webhooks (#792, #2539, SVIXSEC-2026-0001): a range was forgotten, again and again. Every known way round the
guard is tried in tests/service/test_egress_bypass.py; here stands what the guard must let through all the same.
"""

import ipaddress
from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from relay.core.addresses import Network
from relay.core.outcome import Outcome
from relay.egress import GuardedResolver, Sender
from tests.service.admin_api import admin_api
from tests.service.egress_rig import answers
from tests.service.raw_server import OK, always, serving

CLUSTER: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/16"),)
"""Stands for the range of a cluster's pods; the rest of loopback for the rest of a private network."""
HEADERS = {"webhook-id": "evt_1"}


def guarded(found: Sequence[str], allow: Sequence[Network]) -> Sender:
    """Make a sender for which every name has these addresses."""
    resolver = GuardedResolver(allow, lookup=lambda _: answers(*found))
    return Sender(allow=allow, allow_http=True, user_agent="relay/test", resolver=resolver)


@pytest.mark.parametrize(
    ("found", "allow", "outcome"),
    [
        (["127.0.0.1"], CLUSTER, Outcome.DELIVERED),
        (["127.0.0.1"], (), Outcome.BLOCKED),
        (["127.1.0.1"], CLUSTER, Outcome.BLOCKED),
        (["127.0.0.1", "127.1.0.1"], CLUSTER, Outcome.BLOCKED),
        (["169.254.169.254"], CLUSTER, Outcome.BLOCKED),
        (["10.96.0.1"], CLUSTER, Outcome.BLOCKED),
        (["::1"], CLUSTER, Outcome.BLOCKED),
    ],
)
async def test_svix_792_a_receiver_in_the_cluster_is_reached_and_its_neighbours_are_not(
    found: list[str], allow: Sequence[Network], outcome: Outcome
) -> None:
    """svix#792, svix#2539: a guard that in-cluster receivers make people turn off guards nothing.

    Here the range that is allowed is open, name and port included, and every other address is refused as before.
    """
    async with serving(always(OK), host="receiver.tenant.svc") as server, guarded(found, allow) as client:
        reply = await client.post(server.url, HEADERS, b"{}", timeout_s=5)
        assert (reply.outcome, server.connections) == (outcome, int(outcome is Outcome.DELIVERED))


async def test_svixsec_2026_0001_what_may_not_be_dialled_cannot_be_registered(redis_client: Redis) -> None:
    """SVIXSEC-2026-0001, convoy (metadata service only): every private range is refused at the door, by PATCH too."""
    refused = ("169.254.169.254", "10.96.0.1", "192.168.0.1", "[fd00::1]", "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]")
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        for host in refused:
            body = {"url": f"https://{host}/hooks"}
            created = await api.call("POST", "/v1/subscribers", body)
            changed = await api.call("PATCH", f"/v1/subscribers/{subscriber['id']}", body)
            for answer in (created, changed):
                assert (answer.status, answer.pointers) == (422, ["/url"])
        assert (await api.get(f"/v1/subscribers/{subscriber['id']}")).body["url"] == subscriber["url"]
