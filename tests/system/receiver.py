"""A subscriber for system tests: it verifies with the independent library and remembers what came."""

from collections import Counter, defaultdict
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from standardwebhooks import Webhook

from tests.helpers import wait_until


class Receiver:
    """An HTTP receiver on a free port."""

    def __init__(self) -> None:
        self.secret: str | None = None
        self.events: dict[str, dict[str, Any]] = {}
        """First content seen under each webhook id."""
        self.deliveries = 0
        self.times: Counter[str] = Counter()
        """How often each id came."""
        self.contradictions: list[str] = []
        """Ids that came with different contents."""
        self.status = 204
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        event = Webhook(self.secret).verify(body, dict(request.headers)) if self.secret else await request.json()
        if self.status != 204:
            return web.Response(status=self.status)
        identity = request.headers["webhook-id"]
        self.deliveries += 1
        self.times[identity] += 1
        known = self.events.setdefault(identity, event)
        if known != event:
            self.contradictions.append(identity)
        return web.Response(status=204)

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_post("/", self._receive)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def wait_for(self, count: int, timeout_s: float = 30) -> None:
        """Wait until this many different events have come."""
        await wait_until(lambda: len(self.events) >= count, timeout_s, what=f"{count} events, {len(self.events)} came")

    def histories(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """Events by entity in the order of their sequence numbers; each must go on where the last one ended."""
        by_entity: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for event in self.events.values():
            by_entity[event["data"]["source"], event["data"]["entity"]["id"]].append(event)
        for history in by_entity.values():
            history.sort(key=lambda event: event["data"]["sequence"])
            numbers = [event["data"]["sequence"] for event in history]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "one transition, one id, no hole"
            for one, following in pairwise(history):
                assert one["data"]["transition"]["to"] == following["data"]["transition"]["from"]
        return dict(by_entity)

    def types(self, source: str, entity_id: str) -> list[str]:
        """Types of an entity's events, in order."""
        return [event["type"] for event in self.histories().get((source, entity_id), [])]
