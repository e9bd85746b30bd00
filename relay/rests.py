"""Between two polls of a source: until the interval has passed, or somebody asks for a poll now.

Invariant: what an upstream asked for with `Retry-After` is waited for, whoever asks.
"""

import asyncio
from collections.abc import Awaitable, Callable

from relay.clock import Clock, first_of
from relay.leases import Leases


class Rest:
    """The pause of one source's holder; what it is told to forget meanwhile, it forgets at once."""

    def __init__(
        self, source: str, leases: Leases, clock: Clock, told: asyncio.Event, forget: Callable[[], Awaitable[None]]
    ) -> None:
        self._source = source
        self._leases = leases
        self._clock = clock
        self._told = told
        self._forget = forget
        self._wake = asyncio.Event()
        self.not_before = 0.0
        """Monotonic seconds before which the upstream does not want to be asked."""

    def cut_short(self) -> None:
        """End the pause as soon as the upstream allows."""
        self._wake.set()

    def begin(self) -> None:
        """A poll begins: what was asked for so far is what it does."""
        self._wake.clear()

    def hold_off(self, seconds: float) -> None:
        """Do not ask the upstream for so long from now."""
        self.not_before = self._clock.monotonic() + seconds

    async def until(self, at: float, token: int) -> None:
        """Wait until a monotonic time, or the loss of this lease; a change of other leases ends no pause."""
        while (seconds := at - self._clock.monotonic()) > 0 and self._leases.source_token(self._source) == token:
            await first_of(seconds, self._wake, self._leases.changed, self._told)
            await self._forget()
            if self._wake.is_set():
                self._wake.clear()
                at = min(at, max(self.not_before, self._clock.monotonic()))
