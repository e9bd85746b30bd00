"""What the tests of the admin API share: the real application over HTTP, on a real store, with a real sender."""

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis
from structlog.typing import EventDict

from relay.admin import FeedTail, SourceInfo, admin_app
from relay.attempts import Attempter
from relay.core.diff import Transition
from relay.core.events import build
from relay.core.keyring import Keyring
from relay.core.log import Attempt, Entry, Waiting
from relay.core.model import Change, Details, Event, Observation
from relay.core.outcome import Outcome, Reply
from relay.core.retry import DEFAULT_SCHEDULE_S, Verdict
from relay.durable import Durable
from relay.egress import Sender
from relay.identity import new_secret
from relay.store import Store
from relay.store.deliveries import SHARD_CURSOR, Group
from relay.store.keys import SHARDS, shard_of
from relay.telemetry import Metrics
from tests.service.upstreams import FakeClock

TOKEN: Final = "a-token-of-the-operator"
OTHER_TOKEN: Final = "the-token-after-rotation"
LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"),)
URL: Final = "http://127.0.0.1:9000/hooks?tenant=secret-path"
SOURCES: Final = (SourceInfo("lod", "lod", 30), SourceInfo("exams", "learnosity", 10))


class Answer:
    """One answer, read."""

    def __init__(self, status: int, headers: Mapping[str, str], body: Any) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def pointers(self) -> list[str]:
        """Where a problem's errors are."""
        return [one["pointer"] for one in self.body["errors"]]

    @property
    def ids(self) -> list[str]:
        """The ids of a page."""
        return [one["id"] for one in self.body["data"]]


class Api:
    """A caller with a token, and a hand behind the scenes."""

    def __init__(self, http: TestClient[Any, Any], store: Store, clock: FakeClock, tail: FeedTail) -> None:
        self.http = http
        self.tail = tail
        self.store = store
        self.clock = clock
        self.logs: list[EventDict] = []
        self.metrics = Metrics()
        self._tokens: Mapping[str, int] = {}
        self._entities = 0
        self._commits = 0

    async def call(self, method: str, path: str, body: Any = None, *, token: str = TOKEN, **options: Any) -> Answer:
        """Send a request with a token and read the answer."""
        headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
        async with self.http.request(method, path, json=body, headers=headers, **options) as response:
            read = await response.json(content_type=None) if method != "HEAD" else None
            return Answer(response.status, response.headers, read)

    async def get(self, path: str, **query: str | int) -> Answer:
        """GET with query parameters."""
        return await self.call("GET", path, params=query)

    async def pages(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """Every item of a list, page after page."""
        items: list[dict[str, Any]] = []
        while True:
            answer = await self.get(path, **query)
            assert answer.status == 200, answer.body
            assert len(answer.body["data"]) <= int(query.get("limit", 50))
            items += answer.body["data"]
            if answer.body["next_cursor"] is None:
                return items
            query["cursor"] = answer.body["next_cursor"]

    async def subscribe(self, **fields: Any) -> dict[str, Any]:
        """Register a subscriber."""
        answer = await self.call("POST", "/v1/subscribers", {"url": URL, **fields})
        assert answer.status == 201, answer.body
        body: dict[str, Any] = answer.body
        return body

    async def mint(self, count: int = 1, event_type: str = "lab.completed", user_id: str = "555") -> list[Entry]:
        """Write events into the log as a poller does."""
        await self._lease()
        events = []
        for _ in range(count):
            self._entities += 1
            events.append(_event(str(self._entities), event_type, user_id))
        for at in range(0, count, 200):
            changes = [("lod", Change(one.entity_id, b"", b"x", (one,))) for one in events[at : at + 200]]
            await self.store.snapshots.mint("lod", self._tokens["source.lod"], 1, changes)
        found = [await self.store.log.find(one.id) for one in events]
        return [one for one in found if one is not None]

    async def settle(
        self,
        subscriber_id: str,
        *results: Attempt,
        cursor: Entry | None = None,
        parked: Entry | None = None,
        resting_until_ms: int | None = None,
    ) -> None:
        """Commit what attempts came to, as a dispatcher does.

        `cursor` moves the shard's to an event; `parked` is one whose first attempt takes long.
        """
        await self._lease()
        self._commits += 1
        group = Group(attempts=list(results))
        if cursor is not None:
            group.caught_up.add(subscriber_id)
            group.cursors[SHARD_CURSOR] = cursor.place
        if parked is not None:
            group.due[str(Waiting(subscriber_id, parked.place, 1))] = self.server_ms + 20_000
        pulse = (await self.store.pulses.of([subscriber_id]))[subscriber_id]
        for one in results:
            reply = Reply(Outcome(one.outcome), one.status)
            pulse = pulse.noted(reply, self.server_ms, delivered=one.verdict == Verdict.DELIVERED)
            group.pulses[subscriber_id] = pulse = pulse.resting(resting_until_ms)
            where = Waiting.parse(f"{one.subscriber_id}|{one.place}|{one.attempt_no}".encode())
            group.done.add(str(where))
            if one.next_ms is not None:
                group.due[str(Waiting(one.subscriber_id, where.place, one.attempt_no + 1))] = one.next_ms
            elif one.verdict == Verdict.DEAD:
                group.dead.append((one.subscriber_id, self.server_ms, where.place))
        shard = shard_of(subscriber_id)
        await self.store.deliveries.commit(shard, self._tokens[f"shard.{shard}"], self._commits, group, 0)

    async def _lease(self) -> None:
        held = await self.store.leases.tick("test", "poll,deliver", ["lod"], range(SHARDS), ttl_ms=60_000)
        self.server_ms = held.now_ms
        self._tokens = held.tokens


def attempt(
    subscriber: Mapping[str, Any], entry: Entry, no: int, verdict: str, *, next_ms: int | None = None
) -> Attempt:
    """One attempt of a delivery; a delivered one has no detail."""
    failed = verdict != Verdict.DELIVERED
    return Attempt(
        subscriber["id"],
        str(entry.place),
        entry.event_id,
        entry.event_type,
        no,
        entry.place.ms + no,
        12,
        "status" if failed else "delivered",
        500 if failed else 200,
        verdict,
        next_ms,
        "HTTP 500" if failed else "",
        b"oops \xff" if failed else b"",
    )


@asynccontextmanager
async def admin_api(
    client: Redis,
    *,
    tokens: Sequence[str] = (TOKEN, OTHER_TOKEN),
    keys: Sequence[bytes] = (b"k" * 32,),
    seed: int = 7,
    wait_replicas: int = 0,
) -> AsyncIterator[Api]:
    """Serve the API on a free port; `keys` encrypt secrets, `seed` makes the ids of subscribers."""
    store, clock = Store(client), FakeClock()
    durable = Durable(store.log, wait_replicas)
    metrics = Metrics()
    tail = FeedTail(store.log, durable, metrics)
    keyring = Keyring(keys)
    async with Sender(allow=LOOPBACK, allow_http=True, user_agent="relay/test") as sender:
        attempter = Attempter(
            sender, clock, Metrics(), random.Random(1), schedule_s=DEFAULT_SCHEDULE_S, agent="relay/test"
        )
        app = admin_app(
            store=store,
            keyring=keyring,
            attempter=attempter,
            tokens=tokens,
            allow=LOOPBACK,
            allow_http=True,
            sources=SOURCES,
            clock=clock,
            rng=random.Random(seed),
            max_attempts=len(DEFAULT_SCHEDULE_S) + 1,
            new_secret=new_secret,
            durable=durable,
            tail=tail,
            metrics=metrics,
        )
        with structlog.testing.capture_logs() as logs:
            async with TestClient(TestServer(app)) as http:
                api = Api(http, store, clock, tail)
                api.metrics = metrics
                api.logs = logs
                running = asyncio.create_task(tail.run())
                try:
                    yield api
                finally:
                    tail.close()
                    running.cancel()
                    await asyncio.gather(running, return_exceptions=True)


def _event(entity_id: str, event_type: str, user_id: str) -> Event:
    at = datetime.now(UTC)
    transition = Transition("lab_instance", entity_id, 1, event_type, None, "Complete", {}, None, first_seen=True)
    body = b'{"LabInstanceId":%s,"LabProfileId":5522,"CompletionStatus":4,"ExamScore":5.00000}' % entity_id.encode()
    details = Details(None, None, user_id, None, body, b'{"IpAddress":"192.0.2.1"}')
    return build(transition, Observation("lod", at), details, after=None)
