"""When implausibly many changes are believed."""

from relay.core.doubt import MAX_HOLDS, Doubt, Verdict
from relay.core.memory import Claims


def claims(*numbers: int, status: int = 4) -> Claims:
    """Labs that are said to have come to a status."""
    return frozenset((str(number), (status,)) for number in numbers)


def test_a_second_poll_that_says_the_same_is_believed() -> None:
    """Half of what was held back is enough: the rest may have moved on."""
    for again in (range(10), range(5), range(5, 30)):
        doubt = Doubt()
        assert doubt.judge(claims(*range(10))) is Verdict.HELD_BACK
        assert doubt.judge(claims(*again)) is Verdict.AGREED


def test_a_second_poll_that_says_something_else_is_held_back_too() -> None:
    """Other entities, or other states of the same ones; then it is this one that has to be confirmed."""
    for other in (claims(*range(6, 30)), claims(*range(10), status=1)):
        doubt = Doubt()
        doubt.judge(claims(*range(10)))
        assert doubt.judge(other) is Verdict.HELD_BACK
        assert doubt.judge(other) is Verdict.AGREED


def test_nothing_is_withheld_for_ever() -> None:
    """If no two polls agree, the fourth is believed; failures in between do not begin the count again."""
    for failures in (False, True):
        doubt = Doubt()
        for turn in range(MAX_HOLDS):
            assert doubt.judge(claims(turn)) is Verdict.HELD_BACK
            if failures:
                doubt.failed()
        assert doubt.judge(claims(99)) is Verdict.OVERRULED
        assert doubt.judge(claims(99)) is Verdict.HELD_BACK


def test_a_poll_from_before_a_failure_is_no_witness() -> None:
    """What an ailing upstream said is to be said again by two polls in a row."""
    doubt = Doubt()
    doubt.judge(claims(1))
    doubt.failed()
    assert doubt.judge(claims(1)) is Verdict.HELD_BACK
    assert doubt.judge(claims(1)) is Verdict.AGREED


def test_a_plausible_poll_ends_the_doubt() -> None:
    """The next storm begins from nothing."""
    doubt = Doubt()
    for _ in range(MAX_HOLDS + 2):
        assert doubt.judge(claims(1)) is Verdict.HELD_BACK
        doubt.settled()
