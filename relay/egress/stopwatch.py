"""How long the phases of one attempt took.

aiohttp reports the opening of a connection to whoever it is given as a trace; a `TraceConfig` on a session would make
every request pay for that, an object of one's own costs a kept connection one call.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from aiohttp import TraceConfig
from aiohttp.tracing import Trace

_NOTHING: Final = TraceConfig()
_NOTHING.freeze()
_NO_SESSION: Final[Any] = None
_NO_CONTEXT: Final = SimpleNamespace()


class Stopwatch(Trace):
    """One attempt's phases; a phase that was cut off ends with `stop`, and one that never began is None.

    `time` is a monotonic clock in seconds.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        super().__init__(_NO_SESSION, _NOTHING, _NO_CONTEXT)  # what is not overridden here does nothing
        self._time = time
        self._resolving_at: float | None = None
        self._connecting_at: float | None = None
        self._dns_s: float | None = None
        self._connect_s: float | None = None
        self.first_byte_s: float | None = None
        """From sending the request to the first byte of an answer."""
        self.at_proxy = False
        """Whether the proxy itself was being connected to: until it is, nothing is the subscriber's fault."""

    def stop(self) -> None:
        """Nothing more will happen: end what still runs."""
        now = self._time()
        if self._resolving_at is not None:
            self._dns_s = now - self._resolving_at
        elif self._connecting_at is not None:
            self._connect_s = now - self._connecting_at

    @property
    def dns_ms(self) -> int | None:
        """The look-up of the name; None without one (a literal, a kept connection, a proxy that does it)."""
        return _ms(self._dns_s)

    @property
    def connect_ms(self) -> int | None:
        """TCP and TLS, with the proxy's part; None on a kept connection."""
        return _ms(self._connect_s)

    @property
    def first_byte_ms(self) -> int | None:
        """From sending the request to the first byte of an answer; None if none came."""
        return _ms(self.first_byte_s)

    async def send_connection_create_start(self) -> None:
        """A connection is being opened."""
        self._connecting_at = self._time()

    async def send_connection_create_end(self) -> None:
        """It is open."""
        if self._connecting_at is not None:
            self._connect_s = self._time() - self._connecting_at
            self._connecting_at = None

    async def send_connection_reuseconn(self) -> None:
        """A kept one is used."""

    async def send_dns_resolvehost_start(self, host: str) -> None:  # noqa: ARG002 - aiohttp's signature
        """The name is being resolved."""
        self._resolving_at = self._time()

    async def send_dns_resolvehost_end(self, host: str) -> None:  # noqa: ARG002 - aiohttp's signature
        """It is resolved; what follows is the connecting."""
        now = self._time()
        if self._resolving_at is not None:
            self._dns_s = now - self._resolving_at
            self._resolving_at = None
        self._connecting_at = now


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
