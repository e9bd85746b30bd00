"""Counters of what happened, by minute for a day and by hour for a week.

They are written by the scripts that mint and settle, in the same step and at the server's time, so what is counted
has happened, and a repeat of a call is not counted twice.
"""

from collections import Counter

from relay.store.keys import Keys
from relay.store.scripts import Client

MINUTE_S = 60
HOUR_S = 3600
MINUTES_KEPT_S = 24 * HOUR_S
HOURS_KEPT_S = 7 * 24 * HOUR_S

_SPANS = {MINUTE_S: HOUR_S, HOUR_S: 24 * HOUR_S}
"""Seconds that a counter stands for → seconds that one hash holds the counters of."""


class StatisticsStore:
    """The counters, read."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def read(self, since_s: int, until_s: int, grain_s: int) -> dict[int, Counter[str]]:
        """Counters from `since_s` (Unix seconds) on, before `until_s`, by the beginning of their minute or hour.

        A busy hour is thousands of counters, so one hash is read at a time: nothing else waits for a whole day's.
        """
        span_s = _SPANS[grain_s]
        name = self._keys.minutes if grain_s == MINUTE_S else self._keys.hours
        found: dict[int, Counter[str]] = {}
        for span in range(since_s // span_s, -(-until_s // span_s)):
            for field, count in (await self._client.hgetall(name(span))).items():
                part, _, counter = field.decode().partition("|")
                at_s = span * span_s + int(part) * grain_s
                if since_s <= at_s < until_s:
                    found.setdefault(at_s, Counter())[counter] += int(count)
        return found
