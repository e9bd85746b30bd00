"""Whether a subscriber may be sent to right now: a circuit breaker and a rate, as plain values of time.

Both live in the memory of the one replica that sends to the subscriber, so neither costs the store anything.
"""

from dataclasses import dataclass

from relay.core.outcome import Outcome, Reply

OPEN_AFTER = 5
"""Failures in a row that open the breaker."""
FIRST_WINDOW, WIDEST_WINDOW = 1, 256
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
JITTER = 0.2
MAX_ASKED_S = 3600.0
"""Longest pause that a subscriber's own `Retry-After` can bring about."""

_OUR_OWN = frozenset({Outcome.PROXY, Outcome.LOCAL, Outcome.TOO_LARGE})
_ABOUT_THE_EVENT = frozenset({400, 413, 422})
"""The subscriber refuses this event, not events (RFC 9110, section 15.5)."""


def speaks_against(reply: Reply) -> bool | None:
    """Whether a reply says that the subscriber is unwell (True), is well (False), or nothing about it (None)."""
    if reply.outcome is Outcome.DELIVERED:
        return False
    return None if reply.outcome in _OUR_OWN or reply.status in _ABOUT_THE_EVENT else True


@dataclass(slots=True)
class Breaker:
    """Closed: send. Open: send nothing until `open_until`, then one probe at a time until one succeeds."""

    failures: int = 0
    """In a row."""
    open_until: float | None = None
    """Monotonic seconds; None: closed."""
    probing: bool = False
    _pause_s: float = FIRST_PAUSE_S

    @property
    def is_open(self) -> bool:
        """Whether only probes may go out."""
        return self.open_until is not None

    def began(self) -> bool:
        """Note that an attempt has begun; True if it is a probe."""
        self.probing = self.is_open
        return self.probing

    def ended(self, reply: Reply, now: float, jitter: float, *, probe: bool) -> None:
        """Note what an attempt came to. `jitter` in [0, 1] lengthens the pause by up to 20 %.

        A failure of an attempt that began before the breaker opened changes nothing any more.
        """
        if probe:
            self.probing = False
        against = speaks_against(reply)
        if against is False:
            self.failures, self.open_until, self._pause_s = 0, None, FIRST_PAUSE_S
            return
        self.failures += bool(against)
        asked = min(reply.retry_after_s or 0.0, MAX_ASKED_S)
        if probe or asked or (self.failures >= OPEN_AFTER and not self.is_open):
            if probe and against:
                self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
            pause_s = max(self._pause_s * (1 + JITTER * jitter), asked)
            self.open_until = max(self.open_until or 0.0, now + pause_s)


@dataclass(slots=True)
class Window:
    """How many attempts may be under way at once: few for a subscriber that is not known to be well.

    It grows by one with each success, so it doubles with every round of answers, and halves with each failure.
    """

    size: int = FIRST_WINDOW

    def ended(self, reply: Reply) -> None:
        """Note what an attempt came to."""
        against = speaks_against(reply)
        if against is False:
            self.size = min(self.size + 1, WIDEST_WINDOW)
        elif against:
            self.size = max(self.size // 2, 1)


@dataclass(slots=True)
class Pace:
    """A token bucket that holds a second's worth: `rate_per_s` attempts begin per second; None: any number."""

    rate_per_s: float | None
    _tokens: float = 1.0
    _at: float = 0.0

    def wait_s(self, now: float) -> float:
        """Seconds until the next attempt may begin; 0: now."""
        if self.rate_per_s is None:
            return 0.0
        self._tokens = min(max(self.rate_per_s, 1.0), self._tokens + (now - self._at) * self.rate_per_s)
        self._at = now
        return 0.0 if self._tokens >= 1.0 else (1.0 - self._tokens) / self.rate_per_s

    def began(self) -> None:
        """Note that an attempt has begun."""
        if self.rate_per_s is not None:
            self._tokens -= 1.0
