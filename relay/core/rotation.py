"""Rotating a subscriber's secrets: the new one signs from now on, the old ones next to it until the overlap ends.

The invariant: a rotation never lengthens the life of an older secret, so a leaked one ends when it was told to, and an
overlap of 0 ends all of them at once.
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
    """`new` first, then the old ones, each until the overlap's end or its own; raises `TooManySecretsError`."""
    end = now + timedelta(seconds=overlap_s)
    found = (new, *alive([_ending(one, end) for one in secrets], now))
    if len(found) > MAX_ALIVE:
        ends = min(one.until for one in found if one.until is not None)
        raise TooManySecretsError(
            f"{MAX_ALIVE} secrets sign already: wait until {ends}, when one ends, or end all of them with overlap_s 0"
        )
    return found


def _ending(secret: StoredSecret, end: datetime) -> StoredSecret:
    if secret.until is not None and datetime.fromisoformat(secret.until) <= end:
        return secret
    return msgspec.structs.replace(secret, until=rfc3339(end))
