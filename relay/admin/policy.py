"""What may be said of a subscriber as far as the settings decide it: URLs, and the names of sources.

Invariant: what a subscriber has already is not judged again, so that a change of the settings leaves none behind that
cannot be shown, or changed in anything else.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from relay.core.addresses import UrlRefusedError
from relay.core.health import OWN
from relay.core.lab import STATUS_NAMES
from relay.core.session import COMPLETED, DISCARDED, INCOMPLETE, PENDING
from relay.core.subscriber import Subscriber

_STATUSES = (*STATUS_NAMES.values(), INCOMPLETE, COMPLETED, DISCARDED, PENDING, "ok", "failing", "degraded", "disabled")
"""Of labs, of sessions, and of what the relay's own events are about."""
_A_SLIP = 0.8
"""So alike (`difflib`'s ratio) is what somebody meant and what he has typed."""
_NUMBERED = re.compile(r"Status [0-9]+")
"""What a lab's status is called that the vendor does not name."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The context in which a subscription is validated."""

    normalise: Callable[[str], str]
    """Of a URL; raises `UrlRefusedError`."""
    sources: Sequence[str]
    """The configured ones."""
    kept: Subscriber | None = None
    """The subscriber as it was before."""

    def keeping(self, old: Subscriber) -> "Policy":
        """For a change of a subscriber."""
        return replace(self, kept=old)

    def url(self, value: str) -> str:
        """The URL, normalised; raises `ValueError`."""
        if self.kept is not None and value == self.kept.url:
            return value
        try:
            return self.normalise(value)
        except UrlRefusedError as error:
            raise ValueError(str(error)) from None

    def status(self, value: str) -> str:
        """The name of a status. One that is not known may be an upstream's new one; raises `ValueError` for a slip."""
        kept = () if self.kept is None else (*self.kept.filter.from_, *self.kept.filter.to)
        if value in _STATUSES or value in kept or _NUMBERED.fullmatch(value):
            return value
        near = difflib.get_close_matches(value.lower(), [one.lower() for one in _STATUSES], 1, _A_SLIP)
        if not near:
            return value
        meant = next(one for one in _STATUSES if one.lower() == near[0])
        raise ValueError(f"is no status that is known: did you mean {meant}?")

    def source(self, value: str) -> str:
        """The name of a source. One that is not known may be configured later; raises `ValueError` for a slip."""
        kept = () if self.kept is None else self.kept.filter.sources
        known = sorted([*self.sources, OWN])
        if value in (*known, *kept):
            return value
        near = difflib.get_close_matches(value.lower(), known, 1, _A_SLIP)
        if not near:
            return value
        hint = f"did you mean {near[0]}? There are {', '.join(known)} ({OWN}: the relay's own events)"
        raise ValueError(f"names no configured source: {hint}")
