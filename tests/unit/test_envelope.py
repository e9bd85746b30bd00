"""Body and headers of an attempt, verified with the independent library."""

import base64
import json
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks import Webhook, WebhookVerificationError

from relay.core.envelope import Receiver, SigningKey, body_for, headers_for
from relay.core.log import START, Entry
from relay.core.memory import Memory
from relay.core.signing import format_secret
from relay.core.subscriber import Format, Subscriber
from tests.unit.entities import LABS, lab_row, seen

KEY, OLD_KEY = b"k" * 32, b"o" * 32
NOW = datetime.now(UTC)
FORMATS: tuple[Format, ...] = ("standard", "cloudevents")


class Then(datetime):
    """The library judges a timestamp's age by the machine's clock, and refuses it while a whole suite still runs."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # noqa: ARG003
        """Return the time of these tests."""
        return NOW


@pytest.fixture(autouse=True)
def _then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("standardwebhooks.webhooks.datetime", Then)


def entry(**changes: Any) -> Entry:
    """One event as it stands in the log."""
    row = lab_row(CompletionStatus=4, IpAddress="192.0.2.1", UserId="Ünïcode ☃", **changes)
    (change,) = Memory(LABS, {}).digest([row], seen()).changes
    (event,) = change.events
    return Entry(START, event.id, event.type, event.source, event.entity_id, event.payload, event.private)


def receiver(*keys: SigningKey, **changes: Any) -> Receiver:
    """A subscriber with its keys."""
    return Receiver(Subscriber(id="sub_1", url="https://lms.example.org/", **changes), keys or (SigningKey(KEY),))


def sent(to: Receiver, now: datetime = NOW) -> tuple[bytes, dict[str, str]]:
    """What an attempt sends."""
    body = body_for(to, entry())
    return body, headers_for(to, entry().event_id, body, now, "relay/1.0")


@pytest.mark.parametrize("wanted", FORMATS)
@pytest.mark.parametrize("include_pii", [True, False])
def test_every_body_verifies_with_the_independent_library(wanted: Format, include_pii: object) -> None:
    """Both formats, with and without private fields; the signed bytes are the sent bytes."""
    body, headers = sent(receiver(format=wanted, include_pii=bool(include_pii)))
    assert Webhook(format_secret(KEY)).verify(body, headers) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(format_secret(KEY)).verify(body + b" ", headers)


@pytest.mark.parametrize("wanted", FORMATS)
def test_both_secrets_sign_while_a_rotation_overlaps(wanted: Format) -> None:
    """A receiver with either secret verifies; once the overlap ends, to the moment, only the new one signs."""
    until = NOW + timedelta(seconds=1)
    to = receiver(SigningKey(KEY), SigningKey(OLD_KEY, until), format=wanted)
    body, headers = sent(to)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for key in (KEY, OLD_KEY):
        Webhook(format_secret(key)).verify(body, headers)
    body, headers = sent(to, until)
    Webhook(format_secret(KEY)).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(format_secret(OLD_KEY)).verify(body, headers)


def test_a_key_pair_signs_like_a_secret_and_no_key_shows_in_a_representation() -> None:
    """`v1a` only, two of them while a rotation overlaps; neither log nor traceback can show a key."""
    until = NOW + timedelta(seconds=1)
    new, old = (Ed25519PrivateKey.from_private_bytes(seed) for seed in (KEY, OLD_KEY))
    to = receiver(SigningKey(new), SigningKey(old, until), signature="v1a")
    body, headers = sent(to)
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signatures = [one.split(",") for one in headers["webhook-signature"].split(" ")]
    assert [scheme for scheme, _ in signatures] == ["v1a", "v1a"]
    for key, (_, signature) in zip((new, old), signatures, strict=True):
        key.public_key().verify(base64.b64decode(signature), signed)
    assert sent(to, until)[1]["webhook-signature"].count("v1a,") == 1
    assert "kkkk" not in repr(receiver(SigningKey(KEY)))


def test_the_headers_are_the_contracts() -> None:
    """The id is the event's, the time is the attempt's."""
    _, headers = sent(receiver())
    assert headers.pop("webhook-signature").startswith("v1,")
    assert headers == {
        "content-type": "application/json",
        "user-agent": "relay/1.0",
        "webhook-id": entry().event_id,
        "webhook-timestamp": str(int(NOW.timestamp())),
    }


def test_attempts_share_the_id_and_not_the_timestamp() -> None:
    """A subscriber recognises a repeat, and a fresh signature stays fresh."""
    (_, first), (_, second) = sent(receiver()), sent(receiver(), NOW + timedelta(hours=1))
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 3600


def test_a_subscribers_headers_are_added_and_replace_nothing() -> None:
    """Header names are case-insensitive: no spelling puts a second `webhook-id` next to ours."""
    own = {"X-Tenant": "a", "Webhook-Id": "forged", "WEBHOOK-SIGNATURE": "v1,x", "Content-Type": "text/html"}
    _, headers = sent(receiver(headers=own))
    assert headers["X-Tenant"] == "a"
    assert headers["webhook-id"] == entry().event_id
    assert len({name.lower() for name in headers}) == len(headers) == 6


def test_private_fields_go_only_to_who_asked_for_them() -> None:
    """IP addresses are opt-in."""
    assert b"192.0.2.1" not in sent(receiver())[0]
    assert json.loads(sent(receiver(include_pii=True))[0])["data"]["record"]["IpAddress"] == "192.0.2.1"


def test_a_cloudevent_has_the_required_attributes_and_the_same_data() -> None:
    """CloudEvents 1.0, structured mode."""
    body, headers = sent(receiver(format="cloudevents"))
    standard = json.loads(sent(receiver())[0])
    assert headers["content-type"] == "application/cloudevents+json"
    assert json.loads(body) == {
        "specversion": "1.0",
        "id": entry().event_id,
        "source": "/sources/lod",
        "type": "lab.completed",
        "subject": "349744",
        "time": standard["timestamp"],
        "datacontenttype": "application/json",
        "data": standard["data"],
    }


def test_a_standard_body_is_the_logs_own_bytes() -> None:
    """Nothing is encoded twice."""
    assert sent(receiver())[0] == entry().payload
