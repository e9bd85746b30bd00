"""Standard Webhooks signatures, against the published vector and an independent library."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from relay.core.signing import InvalidSecretError, format_secret, secret_key, sign, sign_with_key, verify

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
