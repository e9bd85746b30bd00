"""The relay is killed, stopped or doubled; nothing is lost, invented or minted twice."""

from pathlib import Path
from typing import Any

from relay.sandbox import Sandbox
from tests.helpers import wait_until
from tests.system.receiver import Receiver
from tests.system.relay_process import relay

HALF = 500


def _populate(upstream: Sandbox, count: int) -> None:
    for number in range(count):
        upstream.lod.put(1000 + number, CompletionStatus=3, UserId=f"learner-{number}")
        upstream.learnosity.put(f"session-{number}", status="Incomplete", user_id=f"learner-{number}")


def _complete(upstream: Sandbox, count: int) -> None:
    for number in range(count):
        upstream.lod.put(1000 + number, CompletionStatus=4, End="now")
        upstream.learnosity.put(f"session-{number}", status="Completed")


async def test_kill_9_with_a_thousand_transitions_in_flight_loses_and_doubles_none(
    tmp_path: Path, upstream: Sandbox, settings: dict[str, Any], receiver: Receiver
) -> None:
    """Every transition arrives after a restart; no id stands for two transitions, no transition has two ids."""
    _populate(upstream, HALF)
    data_dir = tmp_path / "data"
    async with relay(data_dir, settings=settings) as first:
        receiver.secret = (await first.subscribe(receiver.url, max_in_flight=4))["secret"]
        await first.polled("lod", "learnosity")
        _complete(upstream, HALF)
        await receiver.wait_for(HALF // 5)
        await first.kill()
    before = len(receiver.events)
    assert before < 2 * HALF
    async with relay(data_dir, settings=settings) as second:
        await receiver.wait_for(2 * HALF, 60)
        assert await second.terminate() == 0
    assert receiver.contradictions == []
    assert {tuple(receiver.types(*entity)) for entity in receiver.histories()} == {
        ("lab.completed",),
        ("session.completed",),
    }
    assert len(receiver.histories()) == 2 * HALF


async def test_an_outage_gives_one_event_per_observable_change(
    tmp_path: Path, upstream: Sandbox, settings: dict[str, Any], receiver: Receiver
) -> None:
    """What changed several times while the relay was down is told as the one change that could be seen."""
    _populate(upstream, 200)
    data_dir = tmp_path / "data"
    async with relay(data_dir, settings=settings) as first:
        receiver.secret = (await first.subscribe(receiver.url))["secret"]
        await first.polled("lod", "learnosity")
        assert await first.terminate() == 0
    for status in (50, 60, 3, 50):
        for number in range(200):
            upstream.lod.put(1000 + number, CompletionStatus=status)
    for number in range(200):
        upstream.lod.put(1000 + number, CompletionStatus=4, End="now", ExamScore=80, ExamPassed=True)
        for word in ("Pending Scoring", "Completed", "Discarded"):
            upstream.learnosity.put(f"session-{number}", status=word)
    upstream.lod.put(1000, CompletionStatus=3, End=None, ExamScore=None, ExamPassed=None)  # all of it undone
    async with relay(data_dir, settings=settings):
        await receiver.wait_for(2 * 199 + 200, 30)
        upstream.lod.put(9999, CompletionStatus=3)  # when this arrives, everything before it has
        await receiver.wait_for(2 * 199 + 201)
    assert receiver.types("lod", "1000") == []
    assert all(receiver.types("lod", str(1000 + n)) == ["lab.scored", "lab.completed"] for n in range(1, 200))
    assert all(receiver.types("learnosity", f"session-{n}") == ["session.discarded"] for n in range(200))
    assert len(receiver.events) == 2 * 199 + 201
    assert receiver.contradictions == []


async def test_a_second_relay_joins_and_goes_on_when_the_first_is_killed(
    tmp_path: Path, upstream: Sandbox, settings: dict[str, Any], receiver: Receiver
) -> None:
    """Two relays share one data directory; the survivor starts the store again and takes the work over."""
    _populate(upstream, 50)
    data_dir = tmp_path / "data"
    async with relay(data_dir, settings=settings) as first, relay(data_dir, settings=settings) as second:
        receiver.secret = (await first.subscribe(receiver.url))["secret"]
        await second.polled("lod", "learnosity")
        await first.kill()
        _complete(upstream, 50)
        await receiver.wait_for(100, 30)
        await wait_until(second.is_ready)
        assert {event["type"] for event in receiver.events.values()} == {"lab.completed", "session.completed"}
        assert receiver.contradictions == []


async def test_a_failing_subscriber_gets_everything_once_it_answers(
    tmp_path: Path, upstream: Sandbox, settings: dict[str, Any], receiver: Receiver
) -> None:
    """Failures are retried with the same id until the subscriber answers."""
    _populate(upstream, 20)
    async with relay(tmp_path / "data", settings=settings) as process:
        created = await process.subscribe(receiver.url, event_types=["session.*"])
        receiver.secret, receiver.status = created["secret"], 500
        await process.polled("lod", "learnosity")
        _complete(upstream, 20)

        async def failing() -> bool:
            pending = await process.call("GET", f"/v1/deliveries?status=pending&subscriber_id={created['id']}")
            return len(pending["data"]) == 20

        await wait_until(failing, 15)
        receiver.status = 204
        await receiver.wait_for(20)
        assert receiver.deliveries == 20


async def test_sigterm_drains_and_exits_cleanly(tmp_path: Path, settings: dict[str, Any]) -> None:
    """An orchestrator's stop is a clean exit, and leaves no server behind."""
    async with relay(tmp_path / "data", settings=settings) as process:
        assert await process.terminate() == 0
