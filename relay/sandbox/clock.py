"""The simulators' clock: another clock plus what was skipped. It can be moved forwards only, as real time is."""

import math
from datetime import datetime, timedelta

from relay.clock import Clock
from relay.sandbox.answers import SandboxInputError

MAX_STEP_S = 366 * 86_400


class SandboxClock:
    """`base` with an offset that tests and the control surface lengthen."""

    def __init__(self, base: Clock) -> None:
        self._base = base
        self._offset_s = 0.0

    def now(self) -> datetime:
        """Wall-clock time of the simulated vendors, aware, UTC."""
        return self._base.now() + timedelta(seconds=self._offset_s)

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        return self._base.monotonic() + self._offset_s

    def advance(self, seconds: float) -> None:
        """Skip `seconds` (0 to one year)."""
        if not (math.isfinite(seconds) and 0 <= seconds <= MAX_STEP_S):
            raise SandboxInputError(f"seconds must lie between 0 and {MAX_STEP_S}")
        self._offset_s += seconds
