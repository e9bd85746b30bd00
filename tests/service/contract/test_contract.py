"""The API against its own description: schemathesis asks everything that the description allows, and what it does not.

It runs as a process of its own with hooks and settings beside this file; the relay it asks is the real application on
a real store, in which there is something of every kind.
"""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from redis.asyncio import Redis

from relay.admin.app import ROUTES
from relay.admin.feed_tail import FeedTail
from relay.admin.routes import Route
from relay.admin.stream import Stream
from relay.core.retry import Verdict
from tests.service.admin_api import TOKEN, Api, admin_api, attempt

HERE: Final = Path(__file__).parent
NOBODY: Final = "http://127.0.0.1:1/"
"""A subscriber's URL at which nobody listens."""
LISTS: Final = ("/v1/subscribers", "/v1/sources", "/v1/events", "/v1/deliveries", "/v1/event-types")
FAR_MS: Final = 4_000_000_000_000

Known = dict[str, list[str]]
"""Collection and parameter → values that lead somewhere."""


async def furnish(api: Api) -> Known:
    """Subscribers with deliveries in every status; what can be asked for."""
    subscribers = [await api.subscribe(url=NOBODY) for _ in range(40)]
    events = await api.mint(40)
    for one in subscribers[:3]:
        delivered = [attempt(one, entry, 1, Verdict.DELIVERED) for entry in events[:10]]
        dead = [attempt(one, entry, 1, Verdict.DEAD) for entry in events[10:15]]
        waiting = [attempt(one, entry, 1, Verdict.RETRY, next_ms=FAR_MS) for entry in events[15:20]]
        await api.settle(one["id"], *delivered, *dead, *waiting)
    return {
        "subscribers id": [one["id"] for one in subscribers],
        "deliveries id": (await api.get("/v1/deliveries", limit=250, subscriber_id=subscribers[0]["id"])).ids,
        "events id": [one.event_id for one in events],
        "sources name": ["lod", "exams"],
        "entities source": [events[0].source],
        "entities id": [one.entity_id for one in events],
        "event-types type": ["lab.completed", "relay.test"],
    }


def settings(known: Known, routes: Sequence[Route]) -> str:
    """What is in the file, the token, and where the known values belong."""
    lines = [f'headers = {{ Authorization = "Bearer {TOKEN}" }}', (HERE / "schemathesis.toml").read_text("utf-8")]
    for name, values in known.items():
        lines += [f'[dictionaries."{name}"]', f"values = {json.dumps(values)}"]
    for path in sorted({route.path for route in routes if route.documented and "{" in route.path}):
        collection = path.split("/")[2]
        names = [name for name in re.findall(r"\{(\w+)\}", path) if f"{collection} {name}" in known]
        bound = [f'"path.{one}" = {{ dictionary = "{collection} {one}", probability = 0.8 }}' for one in names]
        lines += ["[[operations]]", f"include-path = {json.dumps(path)}", f"parameters = {{ {', '.join(bound)} }}"]
    return "\n".join(lines)


async def cursors(api: Api) -> str:
    """One cursor of each list, as the hooks read them."""
    found = [(path, (await api.get(path, limit=1)).body["next_cursor"]) for path in LISTS]
    found.append(("/v1/events/stream", dict(found)["/v1/events"]))
    return " ".join(f"{path}={cursor}" for path, cursor in found)


@pytest.fixture
def brief_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stream end after a moment: it would go on until somebody stops reading."""
    run = Stream.run

    async def run_briefly(stream: Stream, tail: FeedTail) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await run(stream, tail)

    monkeypatch.setattr(Stream, "run", run_briefly)


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("brief_streams")
async def test_the_api_is_as_it_is_described(redis_client: Redis, tmp_path: Path) -> None:
    """All checks of schemathesis, in all phases: statuses, types, schemas, headers, methods, tokens, bad input."""
    async with admin_api(redis_client) as api:
        config = tmp_path / "schemathesis.toml"
        config.write_text(settings(await furnish(api), api.http.app[ROUTES]))
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config)),
            *("run", str(api.http.make_url("/openapi.json")), "--no-color"),
            cwd=tmp_path,
            env={
                **os.environ,
                "RELAY_CONTRACT_CURSORS": await cursors(api),
                "PYTHONPATH": str(HERE),  # the hooks
                "PYTHONHASHSEED": "0",  # the same cases each time
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        refill = asyncio.create_task(_let_time_pass(api))
        try:
            output, _ = await process.communicate()
        finally:
            refill.cancel()
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, output.decode()
        assert [one for one in api.logs if one["event"] == "admin.failed"] == []


async def _let_time_pass(api: Api) -> None:
    """Who sends refused tokens is asked to wait; here each is to be refused as the first one is."""
    while True:
        api.clock.passed_s += 10
        await asyncio.sleep(0.01)
