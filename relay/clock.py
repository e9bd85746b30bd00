"""Time as a dependency: wall-clock time for people, monotonic time for deadlines."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What production code may know about time; tests hand in their own."""

    def now(self) -> datetime:
        """Wall-clock time, aware, UTC. It may jump: never use it for a deadline."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Wall-clock time, aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some fixed point."""
        return time.monotonic()
