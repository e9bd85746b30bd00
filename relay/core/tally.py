"""What happened, as counters by name; and how they are read.

| name | counts |
|---|---|
| `e:SOURCE` | events that entered the log |
| `a:OUTCOME:VERDICT` | attempts |
| `d:BUCKET` | attempts by how long they took |
| `l:BUCKET` | deliveries by their lag: from the event's entry in the log to the acknowledgement |

Invariant: the set of names is bounded, whatever happens. A bucket is a quarter of an octave of milliseconds, so what a
percentile says is at most 25 % away from what was measured.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from relay.core.log import Attempt
from relay.core.retry import Verdict

EVENTS: Final = "e:"
ATTEMPTS: Final = "a:"
DURATIONS: Final = "d:"
LAGS: Final = "l:"

_EXACT: Final = 8
"""Below this many milliseconds every value has a bucket of its own."""
_QUARTERS: Final = 4
_LONGEST_MS: Final = 2**32 - 1
"""Seven weeks: longer than events are kept."""


def tally(attempts: Sequence[Attempt]) -> dict[str, int]:
    """The counters that these attempts add to."""
    endings = Counter((one.outcome, one.verdict) for one in attempts)
    durations = Counter(bucket_of(one.duration_ms) for one in attempts)
    lags = Counter(bucket_of(_lag_ms(one)) for one in attempts if one.verdict == Verdict.DELIVERED)
    return {
        **{f"{ATTEMPTS}{outcome}:{verdict}": count for (outcome, verdict), count in endings.items()},
        **{f"{DURATIONS}{bucket}": count for bucket, count in durations.items()},
        **{f"{LAGS}{bucket}": count for bucket, count in lags.items()},
    }


def _lag_ms(delivered: Attempt) -> int:
    """From the event's entry in the log to the acknowledgement; clocks differ, so it may be below zero."""
    return delivered.started_ms + delivered.duration_ms - int(delivered.place.partition("-")[0])


def bucket_of(ms: int) -> int:
    """Number of the bucket that a time falls into."""
    ms = min(max(ms, 0), _LONGEST_MS)
    if ms < _EXACT:
        return ms
    octave = ms.bit_length() - 3
    return octave * _QUARTERS + (ms >> octave)


def bounds_of(bucket: int) -> tuple[int, int]:
    """From how many milliseconds on, and below how many, times fall into a bucket."""
    if bucket < _EXACT:
        return bucket, bucket + 1
    octave, quarter = divmod(bucket, _QUARTERS)
    octave, quarter = octave - 1, quarter + _QUARTERS
    return quarter << octave, (quarter + 1) << octave


def buckets(counts: Mapping[str, int], kind: str) -> dict[int, int]:
    """The distribution of one kind (`DURATIONS` or `LAGS`): bucket → how many."""
    return {int(name.removeprefix(kind)): count for name, count in counts.items() if name.startswith(kind)}


def percentile(distribution: Mapping[int, int], share: float) -> float:
    """Milliseconds within which `share` (0 to 1) of a distribution that is not empty lies."""
    left = share * sum(distribution.values())
    for bucket in sorted(distribution):
        count = distribution[bucket]
        if left <= count:
            break
        left -= count
    low, high = bounds_of(bucket)
    return low if high - low == 1 else low + (high - low) * min(left / count, 1.0)
