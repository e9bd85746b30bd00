"""What the tests of the upstream clients share: a scripted server, a clock, and polls that end well or badly."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from relay.core.errors import FetchError
from relay.sources.base import Page, Source

NOW = datetime(2026, 11, 21, 17, 0, 30, 250_000, tzinfo=UTC)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = NOW
        self.passed_s = 0.0

    def now(self) -> datetime:
        """Return the time that was set."""
        return self.at

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self.passed_s

    def advance(self, seconds: float) -> None:
        """Move both readings."""
        self.at += timedelta(seconds=seconds)
        self.passed_s += seconds


@dataclass(frozen=True)
class Seen:
    """One request that the server has seen."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    form: Mapping[str, str]


class ScriptedUpstream:
    """A server that records its requests and gives prepared answers, one after the other, then `default`."""

    def __init__(self, session: aiohttp.ClientSession, default: Callable[[], web.Response]) -> None:
        self.session = session
        self.clock = FakeClock()
        self.step_s = 0.0
        """How far the clock moves with every request."""
        self.url = ""
        self.requests: list[Seen] = []
        self.answers: list[web.Response | Handler] = []
        self._default = default

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Record a request and answer it."""
        form = {key: str(value) for key, value in (await request.post()).items()}
        seen = Seen(request.method, request.path, dict(request.query), dict(request.headers), form)
        self.requests.append(seen)
        self.clock.advance(self.step_s)
        answer = self.answers.pop(0) if self.answers else self._default()
        return answer if isinstance(answer, web.Response) else await answer(request)


@asynccontextmanager
async def scripted_upstream(default: Callable[[], web.Response]) -> AsyncIterator[ScriptedUpstream]:
    """Run a scripted server on a free port, with a client session beside it."""
    async with aiohttp.ClientSession() as session:
        upstream = ScriptedUpstream(session, default)
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", upstream.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield upstream
        await runner.cleanup()


def reply(body: bytes | str, status: int = 200, **headers: str) -> web.Response:
    """Build an answer; underscores in the headers' names stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(body=body, status=status, headers=named, content_type="application/json")


async def pages(source: Source, watermark: datetime | None) -> list[Page]:
    """Run one poll to its end."""
    return [page async for page in source.poll(watermark)]


async def fault_of(source: Source, secret: str) -> FetchError:
    """Run a poll that must fail, and neither say the secret nor drag along an exception that might."""
    with capture_logs() as logs, pytest.raises(FetchError) as caught:
        await pages(source, NOW - timedelta(seconds=10))
    assert secret not in f"{caught.value!r} {logs}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value
