"""Time as a dependency: wall-clock time for people, monotonic time for deadlines; waiting for several things."""

import asyncio
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


async def first_of(timeout_s: float | None, *events: asyncio.Event) -> None:
    """Wait until one of these is set, or the time is over (None: it never is)."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
