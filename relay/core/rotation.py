"""Rotating a subscriber's secrets: the new one signs from now on, the old ones next to it until the overlap ends.

The invariant: what was promised to a receiver holds. Each old secret signs until the end that it was given when it was
replaced, whatever is rotated after it; only an overlap of 0, which is for a secret that has leaked, ends all at once.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from relay.core.errors import RelayError
from relay.core.events import rfc3339
from relay.core.subscriber import StoredSecret

MAX_ALIVE = 5
"""Secrets of one subscriber that sign at a time: each of them costs every attempt a signature."""
DEFAULT_OVERLAP_S = 86_400
MAX_OVERLAP_S = 7 * 86_400


class TooManySecretsError(RelayError):
    """One more would sign than may; the message says how to go on."""


def alive(secrets: Sequence[StoredSecret], now: datetime) -> tuple[StoredSecret, ...]:
    """Those that sign at `now`, newest first."""
    return tuple(one for one in secrets if one.until is None or now < datetime.fromisoformat(one.until))


def rotated(
    secrets: Sequence[StoredSecret], new: StoredSecret, now: datetime, overlap_s: float
) -> tuple[StoredSecret, ...]:
    """`new` first, then the old ones, the latest to end first; raises `TooManySecretsError`.

    The one that signs now ends with the overlap, the others when they were going to; an overlap of 0 ends all of them.
    """
    if overlap_s == 0:
        return (new,)
    end = rfc3339(now + timedelta(seconds=overlap_s))
    old = [one if one.until else msgspec.structs.replace(one, until=end) for one in secrets]
    found = (new, *sorted(alive(old, now), key=lambda one: one.until or "", reverse=True))
    if len(found) > MAX_ALIVE:
        ends = min(one.until for one in found if one.until is not None)
        raise TooManySecretsError(
            f"{MAX_ALIVE} secrets sign already: wait until {ends}, when one ends, or end all of them with overlap_s 0"
        )
    return found
