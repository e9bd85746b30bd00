"""Rotating secrets and key pairs over HTTP, and what receivers see of it in real deliveries.

The clock of the attempts is the API's, which the tests move; the dispatcher and its sockets are real.
"""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from redis.asyncio import Redis
from standardwebhooks import Webhook

from relay.admin.signing_keys import SigningKeys
from relay.clock import SystemClock
from relay.core.events import rfc3339
from relay.core.keyring import Keyring
from relay.core.subscriber import Subscriber
from relay.store.keys import shard_of
from tests.helpers import wait_until
from tests.service.admin_api import Api, admin_api
from tests.service.rig import Hit, Replica, Rig

PATH = "/v1/subscribers"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD, NEW = b"o" * 32, b"n" * 32


def signatures(hit: Hit) -> list[str]:
    """What the header holds."""
    return hit.headers["webhook-signature"].split(" ")


def signed_by(hit: Hit, *secrets: str) -> bool:
    """Whether the header holds what the independent library signs with these, no more and in this order."""
    at = datetime.fromtimestamp(int(hit.headers["webhook-timestamp"]), UTC)
    return signatures(hit) == [Webhook(one).sign(hit.event_id, at, hit.body.decode()) for one in secrets]


def fits(public_key: str, hit: Hit) -> list[bool]:
    """Which signatures verify with a public key, by the text of the Standard Webhooks specification alone."""
    assert public_key.startswith("whpk_")
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key[5:]))
    content = f"{hit.headers['webhook-id']}.{hit.headers['webhook-timestamp']}.".encode() + hit.body
    found = []
    for one in signatures(hit):
        scheme, text = one.split(",")
        assert scheme == "v1a"
        try:
            key.verify(base64.b64decode(text), content)
        except InvalidSignature:
            found.append(False)
        else:
            found.append(True)
    return found


async def stored(api: Api, subscriber_id: str) -> Subscriber:
    """The record."""
    found = await api.store.registry.get(subscriber_id)
    assert found is not None
    return found


class Receiver:
    """A subscriber of the dispatcher's that was registered through the API."""

    def __init__(self, rig: Rig, api: Api, replica: Replica) -> None:
        self._rig = rig
        self._api = api
        self._replica = replica
        self.created: dict[str, Any] = {}
        self.path = ""

    async def register(self, **fields: Any) -> dict[str, Any]:
        """Register it."""
        self.created = await self._api.subscribe(url=f"{self._rig.hooks.url}/receiver", **fields)
        self.path = f"{PATH}/{self.created['id']}"
        return self.created

    async def rotate(self, **body: Any) -> dict[str, Any]:
        """Rotate; the answer."""
        answer = await self._api.call("POST", f"{self.path}/rotate-secret", body)
        assert answer.status == 200, answer.body
        read: dict[str, Any] = answer.body
        return read

    async def next(self) -> Hit:
        """The delivery of an event that is minted once the dispatcher knows the record."""
        name = self.created["id"]
        lanes = self._replica.shards[shard_of(name)].lanes
        record = await stored(self._api, name)
        await wait_until(lambda: name in lanes and lanes[name].receiver.subscriber == record)
        (event_id,) = await self._rig.minter.mint(1)
        hits = self._rig.hooks.hits["receiver"]
        await wait_until(lambda: hits and hits[-1].event_id == event_id)
        return hits[-1]


async def receiver(rig: Rig, api: Api) -> Receiver:
    """Build one, with a dispatcher whose attempts go by the API's clock."""
    replica = await rig.started()
    api.clock.at = datetime.now(UTC)  # so that the library's tolerance holds, too
    replica.attempter._clock = api.clock
    return Receiver(rig, api, replica)


async def test_old_and_new_secret_sign_until_the_overlap_ends(rig: Rig, redis_client: Redis) -> None:
    """Two signatures after a rotation, three after a second one, one after the overlaps: the independent library's."""
    async with admin_api(redis_client) as api:
        one = await receiver(rig, api)
        first = (await one.register())["secret"]
        assert signed_by(await one.next(), first)
        second = (await one.rotate(overlap_s=3600))["secret"]
        hit = await one.next()
        assert signed_by(hit, second, first)
        shown = (await api.get(one.path)).body["previous_secrets"]
        until = rfc3339(api.clock.at + timedelta(seconds=3600))
        assert shown == [{"until": until}]
        for secret in (first, second):
            Webhook(secret).verify(hit.body, hit.headers)
        api.clock.advance(1800)
        third = (await one.rotate(overlap_s=3600, secret=SECRET))["secret"]
        assert third == SECRET
        assert signed_by(await one.next(), third, second, first)
        api.clock.advance(1800)
        assert signed_by(await one.next(), third, second)
        api.clock.advance(1800)
        assert signed_by(await one.next(), third)
        assert len((await stored(api, one.created["id"])).secrets) == 3
        await api.call("PATCH", one.path, {})
        assert len((await stored(api, one.created["id"])).secrets) == 1
        assert signed_by(await one.next(), third)


async def test_a_key_pair_signs_and_its_public_half_is_all_that_is_ever_shown(rig: Rig, redis_client: Redis) -> None:
    """`v1a` alone in the header, two during a rotation; public keys in every answer, the private key in none."""
    async with admin_api(redis_client) as api:
        one = await receiver(rig, api)
        created = await one.register(signature="v1a")
        first = created["public_key"]
        assert (created["secret"], created["signature"], created["previous_public_keys"]) == (None, "v1a", [])
        assert fits(first, await one.next()) == [True]
        rotated = await one.rotate(overlap_s=3600)
        second = rotated["public_key"]
        assert rotated["secret"] is None
        assert [key["public_key"] for key in rotated["previous_public_keys"]] == [first]
        hit = await one.next()
        assert (fits(second, hit), fits(first, hit)) == ([True, False], [False, True])
        api.clock.advance(3600)
        shown = (await api.get(one.path)).body
        assert (shown["public_key"], shown["previous_public_keys"]) == (second, [])
        assert fits(second, await one.next()) == [True]
        record = await stored(api, created["id"])
        private = [Keyring([b"k" * 32]).open(key.sealed, record.id) for key in record.secrets]
        told = json.dumps([created, rotated, shown, (await api.get(PATH)).body]) + str(api.logs)
        for key in private:
            assert key.startswith("whsk_")
            assert key.removeprefix("whsk_") not in told
        assert "whsk_" not in told + repr(record)


async def test_a_subscriber_may_change_its_kind_of_signature(rig: Rig, redis_client: Redis) -> None:
    """At once and without an overlap; a new secret is in that answer only, and what it replaces never signs again."""
    async with admin_api(redis_client) as api:
        one = await receiver(rig, api)
        first = (await one.register())["secret"]
        patched = (await api.call("PATCH", one.path, {"signature": "v1a"})).body
        assert "secret" not in patched
        assert fits(patched["public_key"], await one.next()) == [True]
        back = (await api.call("PATCH", one.path, {"signature": None, "description": "d"})).body
        assert (back["signature"], back["public_key"], back["description"]) == ("v1", None, "d")
        assert back["secret"] != first
        assert signed_by(await one.next(), back["secret"])
        for _ in range(2):
            assert "secret" not in (await api.call("PATCH", one.path, {"signature": "v1"})).body
        assert back["secret"] not in str(api.logs)


async def test_a_rotation_is_audited_and_tells_the_secret_once(redis_client: Redis) -> None:
    """Without a body the overlap is a day; the log and every later answer are silent about the secret."""
    async with admin_api(redis_client) as api:
        path = f"{PATH}/{(await api.subscribe())['id']}"
        api.clock.advance(60)
        answer = await api.call("POST", f"{path}/rotate-secret")
        secret = answer.body.pop("secret")
        assert (await api.get(path)).body == answer.body
        assert answer.body["updated_at"] == "2026-11-21T17:01:30.250Z"
        ends = [one.until for one in (await stored(api, answer.body["id"])).secrets]
        assert ends == [None, "2026-11-22T17:01:30.250Z"]
        (line,) = [one for one in api.logs if one.get("action") == "subscriber.rotate-secret"]
        assert (line["event"], line["target"]) == ("admin.change", answer.body["id"])
        assert secret not in str(api.logs)


@pytest.mark.parametrize(
    ("body", "pointer", "mend"),
    [
        ({"overlap": 5}, "/overlap", "overlap_s, secret"),
        ({"overlap_s": -1}, "/overlap_s", "greater than or equal to 0"),
        ({"overlap_s": 604801}, "/overlap_s", "604800"),
        ({"overlap_s": "60"}, "/overlap_s", "number"),
        ({"overlap_s": None}, "/overlap_s", "number"),
        ({"secret": "whsec_c2hvcnQ="}, "/secret", "24 to 64 bytes"),
        ({"secret": "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="}, "/secret", "whsec_"),
    ],
)
async def test_what_cannot_be_rotated_changes_nothing(
    redis_client: Redis, body: dict[str, Any], pointer: str, mend: str
) -> None:
    """422 that names the fault and repeats no secret."""
    async with admin_api(redis_client) as api:
        created = await api.subscribe(secret=SECRET)
        before = await stored(api, created["id"])
        answer = await api.call("POST", f"{PATH}/{created['id']}/rotate-secret", body)
        assert (answer.status, answer.pointers) == (422, [pointer])
        assert mend in answer.body["errors"][0]["detail"]
        assert "c2hvcnQ" not in str(answer.body)
        assert "VEVT" not in str(answer.body)
        assert await stored(api, created["id"]) == before


async def test_a_secret_that_signs_already_is_no_new_one(redis_client: Redis) -> None:
    """409 names it: it would be fine for another subscriber, or at another time."""
    async with admin_api(redis_client) as api:
        created = await api.subscribe(secret=SECRET)
        before = await stored(api, created["id"])
        answer = await api.call("POST", f"{PATH}/{created['id']}/rotate-secret", {"secret": SECRET})
        assert (answer.status, answer.pointers) == (409, ["/secret"])
        assert "signs already" in answer.body["errors"][0]["detail"]
        assert await stored(api, created["id"]) == before


async def test_a_private_key_is_never_brought_along(redis_client: Redis) -> None:
    """A `v1a` subscriber's rotation takes no secret; an unknown subscriber is a 404."""
    async with admin_api(redis_client) as api:
        created = await api.subscribe(signature="v1a")
        answer = await api.call("POST", f"{PATH}/{created['id']}/rotate-secret", {"secret": SECRET})
        assert (answer.status, answer.pointers) == (409, ["/secret"])
        assert (await api.call("POST", f"{PATH}/sub_none/rotate-secret")).status == 404


async def test_a_sixth_secret_waits_or_ends_the_others(redis_client: Redis) -> None:
    """409 says until when; an overlap of 0 leaves only the new one."""
    async with admin_api(redis_client) as api:
        path = f"{PATH}/{(await api.subscribe())['id']}"
        for _ in range(4):
            assert (await api.call("POST", f"{path}/rotate-secret", {"overlap_s": 60})).status == 200
        refused = await api.call("POST", f"{path}/rotate-secret")
        assert (refused.status, refused.body["type"]) == (409, "/problems/conflict")
        assert "2026-11-21T17:01:30.250Z" in refused.body["detail"]
        answer = await api.call("POST", f"{path}/rotate-secret", {"overlap_s": 0})
        assert len((await stored(api, answer.body["id"])).secrets) == 1


def test_a_rotation_makes_a_new_secret_even_where_first_ones_are_all_the_same() -> None:
    """As in the sandbox, whose subscribers begin with one secret."""
    keys = SigningKeys(Keyring([NEW]), SystemClock(), lambda: SECRET)
    made = keys.first("sub_1", "v1")
    subscriber = Subscriber(id="sub_1", url="https://lms.example.org/", secrets=(made.stored,))
    assert made.secret == SECRET != keys.rotated(subscriber, 60, None)[1]


async def test_rotations_at_the_same_time_both_count(redis_client: Redis) -> None:
    """Neither overwrites the other: both new secrets sign, and the first one."""
    async with admin_api(redis_client) as api:
        created = await api.subscribe()
        path = f"{PATH}/{created['id']}/rotate-secret"
        answers = await asyncio.gather(*(api.call("POST", path) for _ in range(2)))
        told = {one.body["secret"] for one in answers} | {created["secret"]}
        ring = Keyring([b"k" * 32])
        assert {ring.open(one.sealed, created["id"]) for one in (await stored(api, created["id"])).secrets} == told


async def test_an_encryption_key_is_retired_without_a_secret_lost(rig: Rig, redis_client: Redis) -> None:
    """Restarted with [new, old]: old secrets open, every write seals with the new key; then the old one may go."""
    async with admin_api(redis_client, keys=[OLD]) as api:
        patched, rotated = await api.subscribe(), await api.subscribe(signature="v1a")
    async with admin_api(redis_client, keys=[NEW, OLD], seed=8) as api:
        created = await api.subscribe()
        for one in (patched, rotated):
            url = f"{rig.hooks.url}/{one['id']}"
            assert (await api.call("PATCH", f"{PATH}/{one['id']}", {"url": url})).status == 200
        sealed = (await stored(api, patched["id"])).secrets
        assert (await api.call("PATCH", f"{PATH}/{patched['id']}", {})).status == 200
        assert (await stored(api, patched["id"])).secrets == sealed
        await api.call("POST", f"{PATH}/{rotated['id']}/rotate-secret")
    async with admin_api(redis_client, keys=[NEW]) as api:
        record = await stored(api, created["id"])
        assert Keyring([NEW]).open(record.secrets[0].sealed, record.id) == created["secret"]
        for one in (patched, rotated):
            assert (await api.call("POST", f"{PATH}/{one['id']}/test")).body["attempt"]["outcome"] == "delivered"
        hit = rig.hooks.hits[patched["id"]][0]
        assert signed_by(hit, patched["secret"])
        assert fits(rotated["public_key"], rig.hooks.hits[rotated["id"]][0]) == [False, True]


async def test_an_empty_patch_seals_again_and_is_audited(redis_client: Redis) -> None:
    """`PATCH {}` for each subscriber is how a key is retired; where no key opens a secret it stays as it is."""
    async with admin_api(redis_client, keys=[OLD]) as api:
        created = await api.subscribe()
        before = await stored(api, created["id"])
    async with admin_api(redis_client, keys=[NEW]) as api:
        assert (await api.call("PATCH", f"{PATH}/{created['id']}", {"description": "d"})).status == 200
        assert (await stored(api, created["id"])).secrets == before.secrets
    async with admin_api(redis_client, keys=[NEW, OLD]) as api:
        assert (await api.call("PATCH", f"{PATH}/{created['id']}", {})).status == 200
        (sealed,) = (await stored(api, created["id"])).secrets
        assert Keyring([NEW]).open(sealed.sealed, created["id"]) == created["secret"]
        assert [one["action"] for one in api.logs if one["event"] == "admin.change"] == ["subscriber.change"]


async def test_a_rotation_mends_a_subscriber_whose_secret_cannot_be_opened(rig: Rig, redis_client: Redis) -> None:
    """The lost one goes, since it would keep the new one from signing; a warning names the subscriber."""
    async with admin_api(redis_client, keys=[OLD]) as api:
        created = await api.subscribe(url=f"{rig.hooks.url}/lost")
    async with admin_api(redis_client, keys=[NEW]) as api:
        path = f"{PATH}/{created['id']}"
        assert (await api.call("POST", f"{path}/test")).status == 409
        secret = (await api.call("POST", f"{path}/rotate-secret")).body["secret"]
        assert (await api.call("POST", f"{path}/test")).status == 200
        (hit,) = rig.hooks.hits["lost"]
        assert signed_by(hit, secret)
        (line,) = [one for one in api.logs if one["event"] == "subscriber.secret_lost"]
        assert (line["subscriber"], line["count"]) == (created["id"], 1)
