"""A learner is erased from two running relays, their store and its files; nothing else changes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from relay.sandbox import Sandbox
from tests.helpers import wait_until
from tests.system.receiver import Receiver
from tests.system.relay_process import RelayProcess, relay

GONE, OTHER = "learner-to-forget", "learner-who-stays"
LABS = {4001: GONE, 4002: OTHER}


@asynccontextmanager
async def echo(seen: list[bytes], well: asyncio.Event) -> AsyncIterator[str]:
    """A subscriber that answers with what it was sent, and refuses it until it is well."""

    async def answer(request: web.Request) -> web.Response:
        seen.append(await request.read())
        return web.Response(status=200 if well.is_set() else 500, body=seen[-1])

    application = web.Application()
    application.router.add_post("/", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def files_with(directory: Path, marker: str) -> list[str]:
    """Names of the files below a directory in which the marker stands."""
    found = []
    for path in directory.rglob("*"):
        try:
            found += [path.name] if path.is_file() and marker.encode() in path.read_bytes() else []
        except FileNotFoundError:  # the server has just put another in its place
            continue
    return found


async def told(relay: RelayProcess, entity_id: str) -> list[dict[str, Any]]:
    """The feed of one entity."""
    found: list[dict[str, Any]] = (await relay.call("GET", f"/v1/events?entity_id={entity_id}"))["data"]
    return found


async def test_a_learner_is_erased_everywhere(
    tmp_path: Path, upstream: Sandbox, settings: dict[str, Any], receiver: Receiver
) -> None:
    """open-wearables#1610: somebody who is to be forgotten stays in the store.

    Here no file and no answer holds the learner any more, no event comes again, and the next one has the next number.
    """
    seen, well = list[bytes](), asyncio.Event()
    for number, learner in LABS.items():
        upstream.lod.put(number, CompletionStatus=3, UserId=learner)
        upstream.learnosity.put(f"session-{number}", status="Incomplete", user_id=learner)
    data_dir, schedule = tmp_path / "data", {**settings, "RELAY_RETRY__SCHEDULE_S": [4.0] * 8}
    async with (
        echo(seen, well) as echo_url,
        relay(data_dir, settings=schedule) as first,
        relay(data_dir, settings=schedule) as second,
    ):
        receiver.secret = (await first.subscribe(receiver.url))["secret"]
        await first.subscribe(echo_url)
        await first.polled("lod", "learnosity")
        for number in LABS:
            upstream.lod.put(number, CompletionStatus=50)
            upstream.learnosity.put(f"session-{number}", status="Pending Scoring")
        await receiver.wait_for(4)
        await wait_until(lambda: len(seen) >= 4)
        assert files_with(data_dir, GONE)

        report = await second.call("DELETE", f"/v1/users/{GONE}")
        sent = len(seen)
        well.set()
        counts = {one["source"]: (one["entities"], one["events"]) for one in report["sources"]}
        assert counts == {"lod": (1, 1), "learnosity": (0, 1)}
        assert sum(one["retries"] for one in report["sources"]) == 2
        assert sum(one["answers"] for one in report["sources"]) >= 2
        assert report["on_disk_by"] is not None
        await wait_until(lambda: not files_with(data_dir, GONE), 15)
        assert files_with(data_dir, OTHER)

        (erased,), (kept,) = await told(first, "4001"), await told(second, "4002")
        assert (erased["type"], erased["data"]["erased"]) == ("lab.submitted", True)
        assert kept["data"]["user_id"] == OTHER
        await asyncio.gather(*(one.call("POST", "/v1/sources/lod/poll") for one in (first, second)))
        await wait_until(lambda: len(seen) >= sent + 2, 20, what="the other learner's retries")
        assert not any(GONE.encode() in body for body in seen[sent:])
        assert len(receiver.events) == 4

        for number in LABS:
            upstream.lod.put(number, CompletionStatus=4, End="now")
        await receiver.wait_for(6)
        assert receiver.types("lod", "4001") == ["lab.submitted", "lab.completed"]
        assert GONE not in first.output.read_text() + second.output.read_text()
