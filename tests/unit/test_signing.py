"""Standard Webhooks signatures, against the published vector and an independent library."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from relay.core.signing import (
    InvalidSecretError,
    format_private_key,
    format_public_key,
    format_secret,
    secret_key,
    sign,
    sign_with_key,
    signing_key,
    verify,
    verifying_key,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP_S = 1614265330
PAYLOAD = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

KEYS = st.binary(min_size=24, max_size=64)


def test_the_published_vector() -> None:
    """The specification's own example."""
    assert sign(SECRET, MESSAGE_ID, TIMESTAMP_S, PAYLOAD) == SIGNATURE
    assert verify([SECRET], MESSAGE_ID, TIMESTAMP_S, PAYLOAD, SIGNATURE)


@given(KEYS, st.from_regex(r"[a-z0-9_.]{1,40}", fullmatch=True), st.integers(0, 2**33), st.text())
def test_the_independent_library_signs_alike(key: bytes, message_id: str, timestamp_s: int, text: str) -> None:
    """Whatever the key, the id, the time and the payload."""
    theirs = Webhook(format_secret(key)).sign(message_id, datetime.fromtimestamp(timestamp_s, UTC), text)
    assert sign_with_key(key, message_id, timestamp_s, text.encode()) == theirs
    assert verify([format_secret(key)], message_id, timestamp_s, text.encode(), theirs)


@given(KEYS)
def test_a_secret_survives_being_written(key: bytes) -> None:
    """`whsec_` and base64, both ways, also without the prefix."""
    assert secret_key(format_secret(key)) == secret_key(format_secret(key).removeprefix("whsec_")) == key


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_!!!!",
        "whsec_" + "é" * 32,
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        SECRET + " ",
        SECRET + "\n",
        format_secret(b"x" * 23),
        format_secret(b"x" * 65),
        "whsec_" + base64.urlsafe_b64encode(b"\xff" * 32).decode(),
    ],
)
def test_what_is_no_secret_is_refused_without_being_repeated(secret: str) -> None:
    """Too short, too long, not base64: the message holds none of it."""
    with pytest.raises(InvalidSecretError) as caught:
        secret_key(secret)
    assert not secret or secret not in str(caught.value)
    assert "MfKQ" not in str(caught.value)


@pytest.mark.parametrize(
    ("message_id", "timestamp_s", "payload"),
    [
        (MESSAGE_ID + "x", TIMESTAMP_S, PAYLOAD),
        (MESSAGE_ID, TIMESTAMP_S + 1, PAYLOAD),
        (MESSAGE_ID, TIMESTAMP_S, PAYLOAD + b" "),
        (MESSAGE_ID, TIMESTAMP_S, b""),
    ],
)
def test_any_change_breaks_the_signature(message_id: str, timestamp_s: int, payload: bytes) -> None:
    """Id, time and every byte are covered."""
    assert not verify([SECRET], message_id, timestamp_s, payload, SIGNATURE)


def test_one_signature_of_several_fits_one_secret_of_several() -> None:
    """Rotation, from either side."""
    other = format_secret(b"y" * 32)
    two = f"{sign(other, MESSAGE_ID, TIMESTAMP_S, PAYLOAD)} {SIGNATURE}"
    assert verify([SECRET], MESSAGE_ID, TIMESTAMP_S, PAYLOAD, two)
    assert verify([other], MESSAGE_ID, TIMESTAMP_S, PAYLOAD, two)
    assert verify([format_secret(b"z" * 32), SECRET], MESSAGE_ID, TIMESTAMP_S, PAYLOAD, SIGNATURE)
    assert not verify([format_secret(b"z" * 32)], MESSAGE_ID, TIMESTAMP_S, PAYLOAD, two)
    assert not verify([], MESSAGE_ID, TIMESTAMP_S, PAYLOAD, two)


@pytest.mark.parametrize(
    "header", ["", " ", "v1,", "v1", SIGNATURE[3:], "v2" + SIGNATURE[2:], SIGNATURE + "=", "é", "\udcff", "v1,\ud800"]
)
def test_a_strange_header_is_refused_quietly(header: str) -> None:
    """What is not a signature of this scheme never verifies and never raises."""
    assert not verify([SECRET], MESSAGE_ID, TIMESTAMP_S, PAYLOAD, header)
    assert not verify([SECRET], "\udcff", TIMESTAMP_S, PAYLOAD, SIGNATURE)


# The reference library's own example (its Go tests): a 32-byte seed, the same id, time and payload.
PRIVATE_KEY = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="
SIGNATURE_A = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="
SEEDS = st.binary(min_size=32, max_size=32)


def public_of(private: str) -> str:
    """The public key's text, written here once more."""
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(private.removeprefix("whsk_")))
    return "whpk_" + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def test_the_published_asymmetric_vector() -> None:
    """ed25519 is deterministic: the reference library's signature, to the bit."""
    assert sign(PRIVATE_KEY, MESSAGE_ID, TIMESTAMP_S, PAYLOAD) == SIGNATURE_A
    assert verify([public_of(PRIVATE_KEY)], MESSAGE_ID, TIMESTAMP_S, PAYLOAD, SIGNATURE_A)


@given(SEEDS, st.from_regex(r"[a-z0-9_.]{1,40}", fullmatch=True), st.integers(0, 2**33), st.binary())
def test_asymmetric_signatures_verify_as_the_specification_says(
    seed: bytes, message_id: str, timestamp_s: int, payload: bytes
) -> None:
    """`v1a,` and base64 of ed25519 over `{msg_id}.{timestamp}.{payload}`; keys survive being written."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    signature = sign_with_key(key, message_id, timestamp_s, payload)
    scheme, text = signature.split(",")
    public = Ed25519PublicKey.from_public_bytes(key.public_key().public_bytes_raw())
    public.verify(base64.b64decode(text, validate=True), b"%s.%d.%s" % (message_id.encode(), timestamp_s, payload))
    assert scheme == "v1a"
    assert format_public_key(key.public_key()) == public_of(format_private_key(key))
    assert sign(format_private_key(key), message_id, timestamp_s, payload) == signature
    assert verify([format_public_key(key.public_key())], message_id, timestamp_s, payload, signature)


@pytest.mark.parametrize(
    "header",
    [
        "v1a,",
        "v1a",
        "v1a," + "A" * 86 + "==",
        "v1," + SIGNATURE_A[4:],
        SIGNATURE_A[:-4],
        SIGNATURE_A + "!",
        "v1a,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=",
        SIGNATURE,
    ],
)
def test_what_a_private_key_did_not_sign_never_verifies(header: str) -> None:
    """Neither a signature of the other scheme nor a damaged one, and none of them raises."""
    public = public_of(PRIVATE_KEY)
    assert not verify([public], MESSAGE_ID, TIMESTAMP_S, PAYLOAD, header)
    assert not verify([public], MESSAGE_ID, TIMESTAMP_S, PAYLOAD + b" ", SIGNATURE_A)
    assert verify([SECRET, public], MESSAGE_ID, TIMESTAMP_S, PAYLOAD, f"{header} {SIGNATURE_A}")


def test_a_public_key_is_no_shared_secret() -> None:
    """Whoever knows the public key cannot forge `v1` with it."""
    public = public_of(PRIVATE_KEY)
    forged = sign_with_key(base64.b64decode(public[5:]), MESSAGE_ID, TIMESTAMP_S, PAYLOAD)
    assert not verify([public], MESSAGE_ID, TIMESTAMP_S, PAYLOAD, forged)


@pytest.mark.parametrize("text", ["whsk_", "whsk_AAAA", "whsk_" + "A" * 86 + "==", "whsk_é", "whpk_" + "A" * 43 + "="])
def test_only_a_seed_signs(text: str) -> None:
    """32 bytes after `whsk_`; a public key does not sign. The message repeats nothing."""
    with pytest.raises(InvalidSecretError) as caught:
        signing_key(text)
    assert "AAAA" not in str(caught.value)


@pytest.mark.parametrize("text", ["whpk_", "whpk_AAAA", "whpk_!", "whpk_" + "A" * 44, PRIVATE_KEY])
def test_only_a_public_key_or_a_secret_verifies(text: str) -> None:
    """A private key that strays to a receiver is refused by name, and not repeated."""
    with pytest.raises(InvalidSecretError, match="whpk_") as caught:
        verifying_key(text)
    assert "VEVT" not in str(caught.value)
