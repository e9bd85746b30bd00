"""The development receiver: what it accepts, what it prints, what it remembers."""

import base64
import io
import json
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import standardwebhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.core.signing import InvalidSecretError, format_public_key, sign
from relay.listen import Listener
from relay.listen.receiver import MAX_BODY_BYTES

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
NOW_S = 1_794_589_200
PAYLOAD = json.dumps(
    {
        "type": "lab.completed",
        "timestamp": "2026-11-13T17:00:00Z",
        "data": {
            "entity": {"kind": "lab_instance", "id": "349744"},
            "transition": {"from": "Incomplete", "to": "Complete"},
        },
    }
).encode()


def listener(*secrets: str, as_json: bool = False) -> tuple[Listener, io.StringIO]:
    """Make a receiver on a free port whose clock stands still."""
    out = io.StringIO()
    return Listener(port=0, secrets=secrets, as_json=as_json, out=out, now_s=lambda: NOW_S), out


def signed(payload: bytes = PAYLOAD, *, webhook_id: str = "evt_1", at: int = NOW_S) -> dict[str, str]:
    """Headers that verify with `SECRET`."""
    signature = sign(SECRET, webhook_id, at, payload)
    return {"webhook-id": webhook_id, "webhook-timestamp": str(at), "webhook-signature": signature}


async def post(url: str, headers: dict[str, str], payload: bytes = PAYLOAD) -> tuple[int, str]:
    """Send one webhook; returns status and text."""
    async with aiohttp.ClientSession() as session, session.post(url, data=payload, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_a_verified_webhook_is_accepted_and_printed_on_one_line() -> None:
    """The line names the type, the entity, both states and the id."""
    receiver, out = listener(SECRET)
    async with receiver:
        assert await post(receiver.url + "hooks?a=1", signed()) == (204, "")
    line = out.getvalue().splitlines()[-1]
    for part in ("verified ✓", "lab.completed", "lab_instance 349744", "Incomplete → Complete", "evt_1"):
        assert part in line
    assert "again" not in line


async def test_signatures_of_the_independent_library_verify() -> None:
    """The receiver agrees with `standardwebhooks`, not only with the relay."""
    receiver, _ = listener(SECRET)
    made = standardwebhooks.Webhook(SECRET).sign("evt_1", datetime.fromtimestamp(NOW_S, UTC), PAYLOAD.decode())
    async with receiver:
        status, _ = await post(receiver.url, signed() | {"webhook-signature": made})
    assert status == 204


async def test_during_a_rotation_either_secret_and_any_of_several_signatures_fit() -> None:
    """Several secrets may be given, and the header may hold several signatures."""
    receiver, _ = listener(OTHER, SECRET)
    headers = signed()
    headers["webhook-signature"] = "v1,AAAA v1a,bbbb " + headers["webhook-signature"]
    async with receiver:
        assert (await post(receiver.url, headers))[0] == 204


async def test_a_public_key_verifies_asymmetric_signatures() -> None:
    """`whpk_…` accepts what its private key signed, also next to another signature, and nothing else."""
    private = Ed25519PrivateKey.generate()
    content = f"evt_1.{NOW_S}.".encode() + PAYLOAD
    good = "v1a," + base64.b64encode(private.sign(content)).decode()
    bad = "v1a," + base64.b64encode(Ed25519PrivateKey.generate().sign(content)).decode()
    receiver, out = listener(format_public_key(private.public_key()))
    async with receiver:
        for signature, status in ((good, 204), (f"{bad} {good}", 204), (bad, 401), (sign(SECRET, "a", 1, b""), 401)):
            assert (await post(receiver.url, signed() | {"webhook-signature": signature}))[0] == status
    assert out.getvalue().count("verified ✓") == 2


async def test_an_id_that_was_seen_before_is_marked() -> None:
    """A duplicate is accepted and shown as one, with its number; another id is not."""
    receiver, out = listener(SECRET)
    async with receiver:
        for webhook_id in ("evt_1", "evt_1", "evt_2", "evt_1"):
            await post(receiver.url, signed(webhook_id=webhook_id))
    first, second, other, third = out.getvalue().splitlines()[1:]
    assert "again" not in first + other
    assert "again (2nd)" in second
    assert "again (3rd)" in third


async def test_what_was_refused_does_not_count_as_seen() -> None:
    """Whoever cannot sign cannot make a genuine webhook look like a duplicate."""
    receiver, out = listener(SECRET)
    async with receiver:
        await post(receiver.url, signed() | {"webhook-signature": "v1,AAAA"})
        await post(receiver.url, signed())
    assert "again" not in out.getvalue()


async def test_with_several_keys_each_line_says_which_one_fits() -> None:
    """During a rotation one sees when the new secret begins to sign."""
    receiver, out = listener(OTHER, SECRET)
    async with receiver:
        await post(receiver.url, signed())
    assert "verified ✓  by the 2nd key" in out.getvalue()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"webhook-signature": "v1,AAAA"}, 401),
        ({"webhook-signature": sign(OTHER, "evt_1", NOW_S, PAYLOAD)}, 401),
        ({"webhook-id": "evt_2"}, 401),
        ({"webhook-timestamp": str(NOW_S + 1)}, 401),
        (signed(at=NOW_S - 301), 401),
        (signed(at=NOW_S + 301), 401),
        ({"webhook-timestamp": "9" * 5000}, 401),
        ({"webhook-timestamp": "soon"}, 400),
        ({"webhook-id": "é"}, 400),
        ({"webhook-signature": ""}, 400),
    ],
)
async def test_what_does_not_verify_is_refused_and_its_content_is_not_printed(
    change: dict[str, str], status: int
) -> None:
    """Each refusal has a status and a reason, and nothing of the body is shown."""
    receiver, out = listener(SECRET)
    async with receiver:
        answer = await post(receiver.url, signed() | change)
    assert answer[0] == status
    line = out.getvalue().splitlines()[-1]
    assert "NOT VERIFIED" in line
    assert answer[1].strip() in line
    assert "349744" not in out.getvalue()


async def test_a_timestamp_within_five_minutes_is_accepted() -> None:
    """The tolerance is inclusive on both sides."""
    receiver, _ = listener(SECRET)
    async with receiver:
        assert (await post(receiver.url, signed(at=NOW_S - 300)))[0] == 204
        assert (await post(receiver.url, signed(at=NOW_S + 300)))[0] == 204


async def test_a_signed_body_that_is_not_json_is_refused() -> None:
    """A valid signature does not make a body readable."""
    receiver, _ = listener(SECRET)
    async with receiver:
        assert (await post(receiver.url, signed(b"{"), b"{"))[0] == 400


async def test_without_a_secret_everything_is_shown_and_the_omission_is_said_once() -> None:
    """The start says that nothing is checked and where a secret comes from; each line repeats only the mark."""
    receiver, out = listener()
    async with receiver:
        assert (await post(receiver.url, {"webhook-id": "evt_1"}))[0] == 204
    first, hint, line = out.getvalue().splitlines()
    assert receiver.url in first
    assert "rotate-secret" in hint
    assert "not checked" in line


async def test_json_lines_hold_the_verdict_and_the_payload() -> None:
    """With `as_json` every line, the announcement too, is one JSON object."""
    receiver, out = listener(SECRET, as_json=True)
    async with receiver:
        await post(receiver.url, signed())
        await post(receiver.url, signed() | {"webhook-id": "evt_2"})
    start, accepted, refused = (json.loads(line) for line in out.getvalue().splitlines())
    assert start == {"listening": receiver.url, "signatures_checked": True}
    assert accepted["payload"] == json.loads(PAYLOAD)
    assert (accepted["type"], accepted["entity"]) == ("lab.completed", {"kind": "lab_instance", "id": "349744"})
    attempt = {"webhook_id": "evt_1", "webhook_timestamp": str(NOW_S), "seen": 1, "status": 204}
    assert attempt.items() <= accepted.items()
    assert (accepted["verified"], accepted["at"]) == (True, "2026-11-13T17:00:00.000Z")
    assert (refused["verified"], refused["status"]) == (False, 401)
    assert "payload" not in refused


@pytest.mark.parametrize(
    "payload", [[], "text", 5, None, {"type": 5, "data": []}, {"type": "a\x1b[2J\n", "data": {"entity": 1}}]
)
async def test_odd_payloads_are_one_printable_line(payload: Any) -> None:
    """Nothing in a body can break the line or steer the terminal."""
    receiver, out = listener()
    async with receiver:
        assert (await post(receiver.url, {}, json.dumps(payload).encode()))[0] == 204
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[-1].isprintable()


async def test_a_body_beyond_the_bound_is_refused() -> None:
    """No more than 1 MiB is read, and the line says so."""
    receiver, out = listener()
    async with receiver:
        body = io.BytesIO(b" " * (MAX_BODY_BYTES + 1))
        async with aiohttp.ClientSession() as session, session.post(receiver.url, data=body) as answer:
            assert answer.status == 413
    assert str(MAX_BODY_BYTES) in out.getvalue().splitlines()[-1]


async def test_remembered_ids_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest id is forgotten first."""
    monkeypatch.setattr("relay.listen.receiver.MAX_SEEN", 2)
    receiver, out = listener()
    async with receiver:
        for webhook_id in ("a", "b", "c", "c", "a"):
            await post(receiver.url, {"webhook-id": webhook_id})
    assert ["again" in line for line in out.getvalue().splitlines()[2:]] == [False, False, False, True, False]


@pytest.mark.parametrize("text", ["whsec_hunter2", "whpk_hunter2", "whsk_hunter2", "hunter2"])
def test_an_unusable_secret_is_refused_at_once_without_repeating_it(text: str) -> None:
    """A typing error in a secret or a public key is not mistaken for bad signatures."""
    with pytest.raises(InvalidSecretError) as caught:
        listener(text)
    assert "hunter2" not in str(caught.value)
