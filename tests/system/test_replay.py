"""A replay survives the death of the process that carries it out."""

from pathlib import Path
from typing import Any

from relay.sandbox import Sandbox
from tests.helpers import wait_until
from tests.system.receiver import Receiver
from tests.system.relay_process import relay

COUNT = 400


async def test_kill_9_in_the_middle_of_a_replay_leaves_no_event_out(
    tmp_path: Path, upstream: Sandbox, settings: dict[str, Any], receiver: Receiver
) -> None:
    """After a restart it goes on by itself: each event came again, with its id, and is listed as one delivery."""
    for number in range(COUNT):
        upstream.lod.put(1000 + number, CompletionStatus=3, UserId=f"learner-{number}")
    data_dir = tmp_path / "data"
    async with relay(data_dir, settings=settings) as first:
        created = await first.subscribe(receiver.url, max_in_flight=4)
        receiver.secret = created["secret"]
        await first.polled("lod")
        for number in range(COUNT):
            upstream.lod.put(1000 + number, CompletionStatus=4, End="now")
        await receiver.wait_for(COUNT)
        body = {"since": "2001-01-01T00:00:00Z", "only": "all"}
        begun = await first.call("POST", f"/v1/subscribers/{created['id']}/replay", body)
        assert (begun["count"], begun["status"]) == (COUNT, "running")
        await wait_until(lambda: receiver.deliveries >= COUNT + COUNT // 4, 20)
        await first.kill()
    assert min(receiver.times.values()) == 1
    path = f"/v1/subscribers/{created['id']}/replays/{begun['id']}"
    async with relay(data_dir, settings=settings) as second:

        async def done() -> bool:
            return bool((await second.call("GET", path))["status"] == "done")

        await wait_until(done, 30)
        shown = await second.call("GET", path)
        listed = await _listed(second, created["id"])
    assert (shown["matched"], shown["sent"], shown["progress"]) == (COUNT, COUNT, 1.0)
    assert len(receiver.times) == COUNT
    assert min(receiver.times.values()) >= 2
    assert receiver.contradictions == []
    assert sorted(one["event_id"] for one in listed) == sorted(receiver.times)
    assert {one["status"] for one in listed} == {"delivered"}


async def _listed(process: Any, subscriber_id: str) -> list[dict[str, Any]]:
    """Every page of the listing."""
    found, query = list[dict[str, Any]](), f"/v1/deliveries?subscriber_id={subscriber_id}&limit=250"
    page = await process.call("GET", query)
    while True:
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        page = await process.call("GET", f"{query}&cursor={page['next_cursor']}")
