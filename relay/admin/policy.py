"""What may be said of a subscriber as far as the settings decide it: URLs, and the names of sources.

Invariant: what a subscriber has already is not judged again, so that a change of the settings leaves none behind that
cannot be shown, or changed in anything else.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from relay.core.addresses import UrlRefusedError
from relay.core.health import OWN
from relay.core.subscriber import Subscriber


@dataclass(frozen=True, slots=True)
class Policy:
    """The context in which a subscription is validated."""

    normalise: Callable[[str], str]
    """Of a URL; raises `UrlRefusedError`."""
    sources: Sequence[str]
    """The configured ones. None: this replica has only the API to serve and was not told, so any name may be one."""
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

    def source(self, value: str) -> str:
        """The name of a source whose events there can be; raises `ValueError` with what may have been meant."""
        kept = () if self.kept is None else self.kept.filter.sources
        known = sorted([*self.sources, OWN])
        if not self.sources or value in (*known, *kept):
            return value
        near = difflib.get_close_matches(value, known, 3, 0.5)
        hint = f"did you mean {' or '.join(near)}? There are" if near else "there are"
        raise ValueError(f"names no configured source: {hint} {', '.join(known)} ({OWN}: the relay's own events)")
