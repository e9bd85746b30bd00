"""What real receivers see: formats, private fields, own headers, and nothing of a body that is too large."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from standardwebhooks import Webhook

from relay.core.model import Event
from tests.helpers import wait_until
from tests.service.admin_api import Api, admin_api
from tests.service.rig import SECRET, Hit, Rig
from tests.store.minting import SOURCE, event, first_sights

PATH = "/v1/subscribers"
RESERVED = (
    *("host", "connection", "expect", "http2-settings", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
    *("user-agent", "accept-encoding", "content-type", "content-length", "content-encoding", "content-digest"),
    *("webhook-id", "webhook-timestamp", "webhook-signature", "webhook-x", "proxy-authorization", "proxy-connection"),
)


async def mint(rig: Rig, *events: Event) -> None:
    """Write these events into the log."""
    held = await rig.store.leases.tick("minter", "poll", [SOURCE], (), ttl_ms=600_000)
    changes = [(SOURCE, one) for one in first_sights(events)]
    await rig.store.snapshots.mint(SOURCE, held.tokens[f"source.{SOURCE}"], 1, changes)


async def hit(rig: Rig, name: str) -> Hit:
    """The one delivery that a subscriber gets."""
    await wait_until(lambda: rig.hooks.accepted[name])
    (one,) = rig.hooks.hits[name]
    return one


async def test_private_fields_and_formats_combine(rig: Rig) -> None:
    """Each body verifies and has its own content type, and only who asked for it sees the address."""
    wanted: dict[str, dict[str, Any]] = {
        "plain": {},
        "pii": {"include_pii": True},
        "cloud": {"format": "cloudevents"},
        "cloud-pii": {"format": "cloudevents", "include_pii": True},
    }
    for name, options in wanted.items():
        await rig.subscribe(name, **options)
    await rig.started()
    one = event(1, private=b'{"IpAddress":"192.0.2.1","Latitude":48.2100000000000000001}')
    await mint(rig, one)
    for name, options in wanted.items():
        seen = await hit(rig, name)
        said: Mapping[str, Any] = Webhook(SECRET).verify(seen.body, seen.headers)
        cloud, pii = options.get("format") == "cloudevents", bool(options.get("include_pii"))
        assert {name.lower(): text for name, text in seen.headers.items()}[
            "content-type"
        ] == f"application/{'cloudevents+' if cloud else ''}json"
        assert (said["id"], said["source"], said["subject"]) == (one.id, "/sources/lod", "lab-1") if cloud else True
        assert seen.headers["webhook-id"] == said["data"]["event_id"] == one.id
        assert said["type"] == "lab.completed"
        assert said["data"]["record"].get("IpAddress") == ("192.0.2.1" if pii else None)
        assert (b"48.2100000000000000001" in seen.body) == pii
    assert (await hit(rig, "plain")).body == one.payload


async def test_own_headers_arrive_once_and_as_they_were_given(rig: Rig, redis_client: Redis) -> None:
    """Next to the relay's own, of which none is replaced."""
    async with admin_api(redis_client) as api:
        own = {"X-Tenant": "a b", "Authorization": "Bearer token", "x-empty": ""}
        created = await api.subscribe(url=f"{rig.hooks.url}/own", headers=own)
        assert (await api.call("POST", f"{PATH}/{created['id']}/test")).body["attempt"]["outcome"] == "delivered"
        headers = (await hit(rig, "own")).headers
        assert {name: headers[name] for name in own} == own
        names = [name.lower() for name in headers]
        assert len(names) == len(set(names))
        assert set(names) - {name.lower() for name in own} == {
            *("host", "accept", "user-agent", "content-type", "content-length"),
            *("webhook-id", "webhook-timestamp", "webhook-signature"),
        }
        assert "Bearer token" not in str(api.logs)


async def test_reserved_names_are_refused_in_any_case(redis_client: Redis) -> None:
    """Header names are case-insensitive: at registration and by a patch."""
    async with admin_api(redis_client) as api:
        path = f"{PATH}/{(await api.subscribe())['id']}"
        for name in RESERVED:
            for spelt in (name, name.upper(), name.title(), name[:1].upper() + name[1:]):
                for method, where in (("POST", PATH), ("PATCH", path)):
                    body = {"headers": {spelt: "x"}} | ({"url": "http://127.0.0.1:9000/"} if method == "POST" else {})
                    answer = await api.call(method, where, body)
                    assert (answer.status, answer.pointers) == (422, [f"/headers/{spelt}"]), spelt


NAMES = st.text(st.characters(codec="latin-1"), max_size=12)
VALUES = st.text(st.characters(codec="latin-1"), max_size=12) | st.sampled_from(
    ["a\r\nX-B: c", "a\nX-B: c", "a\r", "\x00", "a\tb", " a", "a ", "\x7f", "\x85", "é"]
)


async def test_no_header_can_break_out_of_its_line(rig: Rig, redis_client: Redis) -> None:
    """Whatever name and value: refused, or it arrives as that one header and nothing else changes."""
    async with admin_api(redis_client) as api:
        path = f"{PATH}/{(await api.subscribe(url=f'{rig.hooks.url}/odd'))['id']}"
        await api.call("POST", f"{path}/test")
        usual = len((await hit(rig, "odd")).headers)
        cases: list[tuple[str, str]] = []

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(NAMES | st.just("X-A"), VALUES)
        def collect(name: str, value: str) -> None:
            cases.append((name, value))

        collect()
        for name, value in cases:
            await _odd(api, rig, path, name, value, usual)


async def _odd(api: Api, rig: Rig, path: str, name: str, value: str, usual: int) -> None:
    answer = await api.call("PATCH", path, {"headers": {name: value}})
    if answer.status == 200:
        attempt = (await api.call("POST", f"{path}/test")).body["attempt"]
        assert attempt["outcome"] == "delivered", (name, value)
        headers = rig.hooks.hits["odd"][-1].headers
        assert (headers[name], len(headers)) == (value, usual + (name.lower() != "accept")), (name, value)
        assert (await api.call("PATCH", path, {"headers": {name: None}})).status == 200
    else:
        assert answer.status == 422
        assert "\r" not in value or "X-B" not in str(answer.body)


async def test_a_body_that_is_too_large_is_a_dead_letter_and_can_still_be_read(rig: Rig, redis_client: Redis) -> None:
    """At once, unsent and uncut; in the subscriber's own format, so another may get it; the event stays readable."""
    replica = await rig.started()
    async with admin_api(redis_client) as api:
        small, large = [
            await api.subscribe(url=f"{rig.hooks.url}/{name}", include_pii=pii)
            for name, pii in (("small", False), ("large", True))
        ]
        one, following = event(1, private=b'{"Note":"%s"}' % (b"n" * 2000)), event(2)
        replica.attempter._max_payload_bytes = len(one.payload)
        await mint(rig, one, following)
        await wait_until(lambda: len(rig.hooks.hits["small"]) == 2)
        await wait_until(lambda: rig.hooks.hits["large"])

        async def dead() -> list[dict[str, Any]]:
            return await api.pages("/v1/deliveries", status="dead")

        await wait_until(dead)
        (letter,) = await dead()
        assert (letter["subscriber_id"], letter["event_id"]) == (large["id"], one.id)
        (attempt,) = (await api.get(f"/v1/deliveries/{letter['id']}")).body["attempts"]
        assert (attempt["outcome"], attempt["status_code"], attempt["verdict"]) == ("too_large", None, "dead")
        assert "RELAY_MAX_PAYLOAD_BYTES" in attempt["detail"]
        assert (await api.get(f"/v1/events/{one.id}")).body == json.loads(one.payload)
        assert [seen.event_id for seen in rig.hooks.hits["large"]] == [following.id]
        assert (await api.pages("/v1/deliveries", subscriber_id=small["id"], status="dead")) == []
        assert replica.metrics.dead._value.get() == 1


async def test_the_limit_itself_is_allowed(rig: Rig) -> None:
    """A body of exactly so many bytes is sent; the limit counts the CloudEvents envelope, too."""
    one = event(1)
    for name, options in (("standard", {}), ("cloud", {"format": "cloudevents"})):
        await rig.subscribe(name, **options)
    replica = await rig.started()
    replica.attempter._max_payload_bytes = len(one.payload)
    await mint(rig, one)
    assert (await hit(rig, "standard")).body == one.payload
    await rig.committed("standard", "cloud")
    assert rig.hooks.hits["cloud"] == []
