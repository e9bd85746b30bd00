"""One aiohttp server with both simulated upstreams and their control surface; it takes no signals."""

import asyncio
from functools import partial
from typing import Self

from aiohttp import web

from relay.clock import Clock, SystemClock
from relay.sandbox import population
from relay.sandbox.clock import SandboxClock
from relay.sandbox.control import control_routes
from relay.sandbox.learnosity_simulator import LearnositySimulator
from relay.sandbox.lod_simulator import LodSimulator
from relay.sandbox.transport import learnosity_handler, lod_handler

MAX_BODY_BYTES = 4 * 1024 * 1024
DRAIN_S = 0.5


class Sandbox:
    """A running sandbox: the simulators for in-process use, and where to reach them over HTTP."""

    def __init__(self, clock: SandboxClock, lod: LodSimulator, learnosity: LearnositySimulator) -> None:
        self.clock = clock
        self.lod = lod
        self.learnosity = learnosity
        self.url = ""
        self._stopping = asyncio.Event()
        # A client that goes away ends its handler: a stalled answer must not outlive its connection.
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=DRAIN_S,
        )

    @classmethod
    async def start(
        cls,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        clock: Clock | None = None,
        lively: bool = False,
        seed: int = 7,
    ) -> Self:
        """Listen on `host` and `port` (0: any free one). `lively`: labs and sessions live by themselves."""
        sandbox_clock = SandboxClock(clock or SystemClock())
        if lively:
            labs = partial(population.labs_at, seed)
            sessions = partial(population.sessions_at, seed)
            lod = LodSimulator(sandbox_clock, seed, labs, population.outage_at)
            learnosity = LearnositySimulator(sandbox_clock, sessions)
        else:
            lod, learnosity = LodSimulator(sandbox_clock, seed), LearnositySimulator(sandbox_clock)
        sandbox = cls(sandbox_clock, lod, learnosity)
        await sandbox._listen(host, port)
        return sandbox

    @property
    def lod_url(self) -> str:
        """Base URL of the simulated LOD."""
        return self.url + "/lod/api/v3"

    @property
    def learnosity_url(self) -> str:
        """Base URL of the simulated Data API; a version and an endpoint follow it."""
        return self.url + "/learnosity"

    @property
    def control_url(self) -> str:
        """Base URL of the control surface."""
        return self.url + "/_control"

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass for both vendors at once."""
        self.clock.advance(seconds)

    async def stop(self) -> None:
        """Close the port and end what still stalls."""
        self._stopping.set()
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.add_routes(control_routes(self.clock, self.lod, self.learnosity))
        # The whole path ignores case, so the simulator matches what follows the first segment's pattern.
        application.router.add_route("*", "/{_:(?i:lod)}/{rest:.*}", lod_handler(self.lod, self._stopping))
        application.router.add_route("*", "/learnosity{rest:.*}", learnosity_handler(self.learnosity, self._stopping))
        return application

    async def _listen(self, host: str, port: int) -> None:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        bound = self._runner.addresses[0]
        self.url = f"http://[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"http://{bound[0]}:{bound[1]}"
