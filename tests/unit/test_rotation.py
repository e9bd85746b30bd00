"""Which secrets sign while they are rotated."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.events import rfc3339
from relay.core.rotation import MAX_ALIVE, MAX_OVERLAP_S, TooManySecretsError, alive, rotated
from relay.core.subscriber import StoredSecret

NOW = datetime(2026, 11, 21, 17, 0, 30, tzinfo=UTC)


def secret(name: str, ends_in_s: float | None = None) -> StoredSecret:
    """One at rest, by name."""
    return StoredSecret(sealed=name, until=None if ends_in_s is None else rfc3339(NOW + timedelta(seconds=ends_in_s)))


def names(secrets: tuple[StoredSecret, ...], after_s: float = 0) -> str:
    """Who signs after so long, in order."""
    return "".join(one.sealed for one in alive(secrets, NOW + timedelta(seconds=after_s)))


def test_the_new_secret_comes_first_and_the_old_one_signs_until_the_overlap_ends() -> None:
    """To the moment."""
    found = rotated((secret("a"),), secret("b"), NOW, 60)
    assert (names(found), names(found, 59.999), names(found, 60)) == ("ba", "ba", "b")
    assert [one.until for one in found] == [None, "2026-11-21T17:01:30.000Z"]


def test_rotations_within_an_overlap_add_up() -> None:
    """Three secrets sign; each old one ends when it was told to."""
    once = rotated((secret("a"),), secret("b"), NOW, 60)
    twice = rotated(once, secret("c"), NOW + timedelta(seconds=30), 60)
    assert [names(twice, at) for at in (30, 60, 90)] == ["cba", "cb", "c"]


def test_a_rotation_neither_lengthens_nor_shortens_an_older_overlap() -> None:
    """What a receiver was promised holds; but an overlap of 0 ends all at once, whatever was said before."""
    once = rotated((secret("a"),), secret("b"), NOW, 3600)
    twice = rotated(once, secret("c"), NOW, 60)
    assert [names(twice, at) for at in (0, 60, 3599.9, 3600)] == ["cab", "ca", "ca", "c"]
    assert names(rotated(once, secret("c"), NOW, MAX_OVERLAP_S), 3600) == "cb"
    assert rotated(twice, secret("d"), NOW, 0) == (secret("d"),)


def test_what_has_ended_leaves_the_record() -> None:
    """Expired secrets neither stay nor count."""
    expired = [secret(str(number), -1) for number in range(MAX_ALIVE)]
    assert names(rotated([secret("a"), *expired], secret("b"), NOW, 60)) == "ba"


def test_no_more_than_five_sign() -> None:
    """The sixth is refused, and the message says when there is room again."""
    found: tuple[StoredSecret, ...] = (secret("a"),)
    for number in range(MAX_ALIVE - 1):
        found = rotated(found, secret(str(number)), NOW, 60 + number)
    assert len(found) == MAX_ALIVE
    with pytest.raises(TooManySecretsError, match=r"17:01:30\.000Z.*overlap_s 0"):
        rotated(found, secret("z"), NOW, 60)
    assert names(rotated(found, secret("z"), NOW, 0)) == "z"
    assert names(rotated(found, secret("z"), NOW + timedelta(seconds=60), 60), 60)[:1] == "z"


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, MAX_OVERLAP_S)), max_size=MAX_ALIVE - 1))
def test_there_is_always_one_current_secret_and_ends_come_in_order(steps: list[tuple[int, int]]) -> None:
    """Whatever the sequence: one without an end, first; then those that end, the latest first."""
    found: tuple[StoredSecret, ...] = (secret("0"),)
    now = NOW
    for number, (pause_s, overlap_s) in enumerate(steps):
        now += timedelta(seconds=pause_s)
        found = rotated(found, secret(str(number + 1)), now, overlap_s)
        ends = [one.until for one in found[1:] if one.until is not None]
        assert found[0].until is None
        assert len(ends) == len(found) - 1
        assert ends == sorted(ends, reverse=True)
