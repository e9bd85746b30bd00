"""Secrets at rest: sealed for one owner, opened with any key of the ring."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.keyring import KEY_BYTES, NONCE_BYTES, Keyring, UnreadableSecretError

OLD, NEW = b"o" * KEY_BYTES, b"n" * KEY_BYTES
NONCE = b"1" * NONCE_BYTES
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@given(st.text(), st.text(max_size=40), st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES))
def test_what_is_sealed_can_be_opened(plain: str, owner: str, nonce: bytes) -> None:
    """By the same owner, and the plain text is not in what is stored."""
    sealed = Keyring([NEW]).seal(plain, owner, nonce)
    assert Keyring([NEW]).open(sealed, owner) == plain
    assert len(plain) < 4 or plain.encode() not in base64.b64decode(sealed)


def test_the_first_key_seals_and_all_of_them_open() -> None:
    """A key is rotated by putting the new one first; once the old one is gone, only what it sealed is lost."""
    old = Keyring([OLD]).seal(SECRET, "sub_1", NONCE)
    both = Keyring([NEW, OLD])
    assert both.open(old, "sub_1") == SECRET
    assert Keyring([NEW]).open(both.seal(SECRET, "sub_1", NONCE), "sub_1") == SECRET
    with pytest.raises(UnreadableSecretError, match="RELAY_ENCRYPTION_KEYS"):
        Keyring([NEW]).open(old, "sub_1")


def test_sealing_again_moves_a_secret_to_the_first_key_and_changes_nothing_else() -> None:
    """What the first key sealed keeps its bytes; a secret that cannot be opened is not touched."""
    old = Keyring([OLD]).seal(SECRET, "sub_1", NONCE)
    both = Keyring([NEW, OLD])
    new = both.reseal(old, "sub_1", NONCE)
    assert Keyring([NEW]).open(new, "sub_1") == SECRET
    assert both.reseal(new, "sub_1", b"2" * NONCE_BYTES) == new
    with pytest.raises(UnreadableSecretError):
        Keyring([NEW]).reseal(old, "sub_1", NONCE)


def test_a_secret_cannot_be_moved_to_another_subscriber() -> None:
    """The owner's id is authenticated."""
    sealed = Keyring([NEW]).seal(SECRET, "sub_1", NONCE)
    with pytest.raises(UnreadableSecretError):
        Keyring([NEW]).open(sealed, "sub_2")


def test_any_flipped_bit_is_noticed() -> None:
    """Every byte of nonce, cipher text and tag is authenticated."""
    ring = Keyring([NEW])
    sealed = base64.b64decode(ring.seal("x", "sub_1", NONCE))
    for at in range(len(sealed)):
        damaged = bytes(byte ^ (index == at) for index, byte in enumerate(sealed))
        with pytest.raises(UnreadableSecretError):
            ring.open(base64.b64encode(damaged).decode(), "sub_1")


@pytest.mark.parametrize("sealed", ["", "!", "é", "AAAA", base64.b64encode(NONCE).decode(), "\udcff"])
def test_what_is_damaged_is_said_without_being_repeated(sealed: str) -> None:
    """Whatever stands in the store, the error is the one kind, names the owner and holds nothing else."""
    with pytest.raises(UnreadableSecretError, match="sub_1") as caught:
        Keyring([NEW, OLD]).open(sealed, "sub_1")
    assert not sealed or sealed not in str(caught.value)
