"""Whether implausibly many changes are believed: an upstream that is restored, or broken, must not start a storm.

Invariant: nothing is withheld for ever. Changes wait for a second poll that says the same, and after
`MAX_HOLDS` polls that each say something else the latest one is believed.
"""

from enum import Enum

from relay.core.memory import Claims

AGREEING_SHARE = 0.5
"""How much of what was held back must come again; the rest may have moved on between two polls."""
MAX_HOLDS = 3


class Verdict(Enum):
    """What becomes of implausibly many changes."""

    HELD_BACK = "held_back"
    AGREED = "agreed"
    """The poll before has said the same."""
    OVERRULED = "overruled"
    """No two polls agree, but they have waited long enough."""


class Doubt:
    """What the last poll has claimed and was not believed."""

    def __init__(self) -> None:
        self._claims: Claims = frozenset()
        self._holds = 0

    def judge(self, claims: Claims) -> Verdict:
        """Believe these claims, or hold them back and remember them."""
        again = len(self._claims & claims)
        if self._claims and again >= AGREEING_SHARE * len(self._claims):
            verdict = Verdict.AGREED
        elif self._holds >= MAX_HOLDS:
            verdict = Verdict.OVERRULED
        else:
            self._claims = claims
            self._holds += 1
            return Verdict.HELD_BACK
        self.settled()
        return verdict

    def failed(self) -> None:
        """A poll has failed: what comes next is to agree with another poll, not with one from before the trouble."""
        self._claims = frozenset()

    def settled(self) -> None:
        """A poll was taken as it is: the next doubt is a new one."""
        self._claims = frozenset()
        self._holds = 0
