"""What users of other webhook senders complain of in public issue trackers: subscribers that fail, and who suffers.

hookdeck/outpost, and mistakes that are common to several. What one failing subscriber does to the others (convoy#1926)
stands in tests/service/test_dispatcher_isolation.py.
"""

import asyncio
import socket
from collections.abc import Sequence
from functools import partial

import msgspec
import pytest

from relay.core.log import Attempt
from relay.egress import GuardedResolver, Sender
from relay.egress.resolver import AddressInfo
from relay.store.keys import shard_of
from tests.helpers import wait_until
from tests.service.egress_rig import answers
from tests.service.raw_server import LOOPBACK, OK, Peer, always, serving
from tests.service.rig import Rig, refuse


async def _attempts(rig: Rig, name: str) -> list[Attempt]:
    groups = await rig.store.deliveries.attempts(shard_of(name), count=1000)
    return [one for _, group in groups for one in group if one.subscriber_id == name]


async def test_outpost_314_a_name_that_does_not_resolve_is_tried_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """outpost#314: a DNS error was taken for final.

    Here it is a failure like any other: by the schedule, and delivered once the name is back.
    """
    known = False

    def look_up(host: str) -> Sequence[AddressInfo]:
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, host)
        return answers("127.0.0.1")

    resolver = GuardedResolver(LOOPBACK, lookup=look_up)
    monkeypatch.setattr("tests.service.rig.Sender", partial(Sender, resolver=resolver))
    async with serving(always(OK), host="lms.example") as server:
        subscriber = await rig.subscribe("a", retry_schedule_s=(0.05,) * 20)
        await rig.change(msgspec.structs.replace(subscriber, url=server.url))
        await rig.started()
        await rig.minter.mint(1)
        await wait_until(lambda: _failed(rig, "dns", 2))
        known = True
        await rig.committed("a")
        assert server.connections == 1
    latest = max(await _attempts(rig, "a"), key=lambda one: one.attempt_no)
    assert latest.verdict == "delivered"
    await rig.expect_from_now("a")  # it was the other server that took it


async def _failed(rig: Rig, outcome: str, count: int) -> bool:
    return sum(one.outcome == outcome for one in await _attempts(rig, "a")) >= count


async def test_a_body_that_never_ends_pins_no_worker(rig: Rig) -> None:
    """A body read outside the time-out (seen in several): each endless answer cost a worker for good.

    Here a subscriber that never ends an answer, and allows one request at a time, gets its events one after the other.
    """

    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await peer.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await asyncio.sleep(0)  # client and server share the loop

    async with serving(endless) as server:
        subscriber = await rig.subscribe("a", max_in_flight=1, timeout_s=20.0)
        await rig.change(msgspec.structs.replace(subscriber, url=server.url))
        await rig.started()
        await rig.minter.mint(20)
        await rig.committed("a")
        assert server.connections == 20
    assert {one.verdict for one in await _attempts(rig, "a")} == {"delivered"}
    await rig.expect_from_now("a")  # it was the other server that took them


async def test_retries_of_events_that_failed_together_do_not_come_back_together(rig: Rig) -> None:
    """Retries without jitter (outpost, convoy), or with a jitter that makes a retry early (svix).

    Here the delays of a hundred events spread over the fifth that follows the planned time, and none lies before it.
    """
    rig.hooks.behaviours["a"] = refuse
    await rig.subscribe("a", retry_schedule_s=(100.0,))
    await rig.started()
    await rig.minter.mint(100)
    await wait_until(lambda: len(rig.hooks.hits["a"]) == 100)
    await wait_until(lambda: _are_listed(rig, 100))
    delays = [
        one.next_ms - one.started_ms - one.duration_ms for one in await _attempts(rig, "a") if one.next_ms is not None
    ]
    assert len(delays) == 100
    assert 100_000 <= min(delays) < 105_000
    assert 115_000 < max(delays) <= 120_000
    due = {one.event_id: one.next_ms for one in await _attempts(rig, "a")}
    for waiting, due_ms in await rig.store.deliveries.waiting(shard_of("a"), 0, 200):
        (entry,) = await rig.store.log.at([waiting.place])
        assert entry is not None
        planned = due[entry.event_id]
        assert planned is not None
        assert due_ms >= planned - 1, "the store wakes nobody early either"


async def _are_listed(rig: Rig, count: int) -> bool:
    return len(await rig._waiting("a")) == count


async def test_outpost_596_a_restart_does_not_put_off_the_disabling(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """outpost#596: auto-disable never happened; (common to several) it happened in silence.

    Here what has been told as failing goes on failing after a restart: one notice, then disabled, each told once.
    """
    monkeypatch.setattr("tests.service.rig.NOTICE_AFTER_S", 0.1)
    monkeypatch.setattr("tests.service.rig.DISABLE_AFTER_S", 0.4)
    await rig.subscribe("watcher", event_types=("relay.subscriber.*",))
    await rig.subscribe("dead", event_types=("lab.*",), retry_schedule_s=(0.05,) * 4)
    rig.hooks.behaviours["dead"] = refuse
    replica = await rig.started()
    await rig.minter.mint(20)
    await wait_until(lambda: len(rig.hooks.hits["watcher"]) == 1)
    since = await _failing_since(rig)
    await replica.crash()
    await rig.started(after=[replica])

    async def disabled() -> bool:
        await rig.minter.mint(1)
        found = await rig.store.registry.get("dead")
        return found is not None and not found.enabled

    await wait_until(disabled)
    await wait_until(lambda: len(rig.hooks.accepted["watcher"]) == 2)
    told = [msgspec.json.decode(hit.body) for hit in rig.hooks.hits["watcher"]]
    kinds = list(dict.fromkeys(one["type"] for one in told))
    assert kinds == ["relay.subscriber.failing", "relay.subscriber.disabled"]
    assert told[-1]["data"]["record"]["failing_since"] == since


async def _failing_since(rig: Rig) -> str | None:
    found = await rig.store.registry.get("dead")
    assert found is not None
    return found.state.failing_since
