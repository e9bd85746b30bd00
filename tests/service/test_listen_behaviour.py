"""The development receiver told to misbehave, to wait, or to pass webhooks on."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from relay.core.addresses import UrlRefusedError
from relay.core.signing import sign
from relay.listen import Behaviour, Listener
from relay.listen.check import RejectedError
from relay.listen.forward import Forwarder
from relay.terminal import in_colour
from tests.helpers import free_port, wait_until
from tests.service.raw_server import Peer, serving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW_S = 1_794_589_200
PAYLOAD = b'{"type": "lab.completed",  "data": {"entity": {"kind": "lab_instance", "id": "1"}, "u": "\\u00e9"}}'


def listener(*secrets: str, behaviour: Behaviour, **more: Any) -> tuple[Listener, io.StringIO]:
    """Make a receiver on a free port whose clock stands still."""
    out = io.StringIO()
    given: dict[str, Any] = {"port": 0, "as_json": False, "now_s": lambda: NOW_S, **more}
    return Listener(secrets=secrets, out=out, behaviour=behaviour, **given), out


def signed(webhook_id: str = "evt_1") -> dict[str, str]:
    """Headers that verify with `SECRET`."""
    signature = sign(SECRET, webhook_id, NOW_S, PAYLOAD)
    return {"Webhook-Id": webhook_id, "webhook-timestamp": str(NOW_S), "webhook-signature": signature}


async def post(url: str, headers: dict[str, str]) -> tuple[int, str]:
    """Send one webhook; returns status and text."""
    async with aiohttp.ClientSession() as session, session.post(url, data=PAYLOAD, headers=headers) as answer:
        return answer.status, await answer.text()


class Application:
    """What a developer writes: it notes requests and answers as it is told."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[CIMultiDict[str], bytes]] = []
        self.answer: Any = lambda: web.Response(status=204)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer any path."""
        self.requests.append((CIMultiDict(request.headers), await request.read()))
        answer: web.StreamResponse = self.answer()
        return answer


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    """Run an application on a free port."""
    made = Application()
    app = web.Application()
    app.router.add_post("/{path:.*}", made.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks?tenant=a"
    yield made
    await runner.cleanup()


async def test_the_share_that_fails_is_answered_500_and_nothing_else_is_done_with_it() -> None:
    """A webhook that chance picks is neither verified nor shown, and its retry is marked as one."""
    chances: Iterator[float] = iter([0.29, 0.30])
    receiver, out = listener(SECRET, behaviour=Behaviour(fail_rate=0.3), chance=lambda: next(chances))
    async with receiver:
        assert (await post(receiver.url, signed()))[0] == 500
        assert (await post(receiver.url, signed()))[0] == 204
    failed, retried = out.getvalue().splitlines()[1:]
    assert "FAILED ON PURPOSE  evt_1  answered 500" in failed
    assert "lab.completed" not in failed
    assert "again (2nd)" in retried
    assert receiver.summary() == "2 webhooks: 1 verified, 1 failed on purpose; 1 seen before"


async def test_in_json_a_webhook_that_failed_on_purpose_has_no_payload() -> None:
    """It says that the failure was asked for, and nothing about the signature."""
    receiver, out = listener(SECRET, behaviour=Behaviour(fail_rate=1), as_json=True)
    async with receiver:
        await post(receiver.url, signed())
    line = json.loads(out.getvalue().splitlines()[-1])
    assert (line["failed_on_purpose"], line["verified"], line["status"]) == (True, None, 500)
    assert "payload" not in line


async def test_status_is_the_answer_to_what_was_accepted_only() -> None:
    """`--status` does not hide that a signature does not fit."""
    receiver, out = listener(SECRET, behaviour=Behaviour(status=410))
    async with receiver:
        assert (await post(receiver.url, signed()))[0] == 410
        assert (await post(receiver.url, signed() | {"Webhook-Id": "evt_2"}))[0] == 401
    assert "answered 410" in out.getvalue()


async def test_an_answer_waits_as_long_as_it_is_told_and_its_line_does_not() -> None:
    """The webhook is printed at once, and the answer comes after the delay."""
    receiver, out = listener(behaviour=Behaviour(delay_s=0.05))
    async with receiver:
        started = time.monotonic()
        answer = asyncio.create_task(post(receiver.url, signed()))
        await wait_until(lambda: "evt_1" in out.getvalue())
        assert not answer.done()
        assert (await answer)[0] == 204
        assert time.monotonic() - started >= 0.05


async def test_an_answer_that_waits_is_given_when_the_receiver_stops() -> None:
    """Ctrl-C does not wait for a long delay, and costs nobody an answer."""
    receiver, out = listener(behaviour=Behaviour(delay_s=3600))
    async with receiver:
        answer = asyncio.create_task(post(receiver.url, signed()))
        await wait_until(lambda: "evt_1" in out.getvalue())
    assert (await answer)[0] == 204


async def test_an_application_gets_the_same_bytes_and_headers_and_its_answer_is_given(application: Application) -> None:
    """Its own verification is exercised: nothing is added to the headers except who passed it on; Host is its own."""
    application.answer = lambda: web.Response(status=202, text="queued", headers={"X-App": "1", "Connection": "close"})
    receiver, out = listener(SECRET, behaviour=Behaviour(forward=application.url))
    headers = signed() | {"User-Agent": "relay/1", "Content-Type": "application/json", "X-Tenant": "a"}
    hop = {"Connection": "keep-alive, X-Hop", "X-Hop": "1", "TE": "trailers"}
    async with (
        receiver,
        aiohttp.ClientSession(skip_auto_headers=["Accept", "Accept-Encoding"]) as session,
        session.post(receiver.url + "other", data=PAYLOAD, headers=headers | hop) as answer,
    ):
        assert (answer.status, await answer.text(), answer.headers["X-App"]) == (202, "queued", "1")
    [(got, body)] = application.requests
    assert body == PAYLOAD
    host = application.url.split("/")[2]
    via = got.pop("Via")
    assert via.startswith("1.1 relay-listen-")
    assert dict(got) == headers | {"Host": host, "Content-Length": str(len(PAYLOAD)), "Connection": "close"}
    assert "answered 202 in " in out.getvalue()
    assert f"forwarding to {application.url}" in out.getvalue()


async def test_what_does_not_verify_is_not_passed_on(application: Application) -> None:
    """With a key, an application behind the receiver hears genuine webhooks only."""
    receiver, _ = listener(SECRET, behaviour=Behaviour(forward=application.url))
    async with receiver:
        assert (await post(receiver.url, signed() | {"Webhook-Id": "evt_2"}))[0] == 401
    assert application.requests == []


async def test_a_redirect_of_the_application_is_its_answer(application: Application) -> None:
    """It is not followed, as the relay would not follow it."""
    application.answer = lambda: web.Response(status=307, headers={"Location": application.url})
    receiver, _ = listener(behaviour=Behaviour(forward=application.url))
    async with (
        receiver,
        aiohttp.ClientSession() as session,
        session.post(receiver.url, data=PAYLOAD, allow_redirects=False) as answer,
    ):
        assert (answer.status, answer.headers["Location"]) == (307, application.url)
    assert len(application.requests) == 1


async def test_a_dead_application_is_502_with_the_reason() -> None:
    """The failure is told in one line, and the receiver goes on."""
    receiver, out = listener(behaviour=Behaviour(forward=f"http://127.0.0.1:{free_port()}/"), as_json=True)
    async with receiver:
        assert (await post(receiver.url, signed()))[0] == 502
    line = json.loads(out.getvalue().splitlines()[-1])
    assert line["status"] == 502
    assert "ECONNREFUSED" in line["reason"]


async def test_an_application_whose_answer_never_ends_is_502() -> None:
    """No more of an answer is read than a bound."""

    async def flood(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(b"x" * 65536)

    async with serving(flood) as application:
        receiver, out = listener(behaviour=Behaviour(forward=application.url.partition("?")[0]))
        async with receiver:
            assert (await post(receiver.url, signed()))[0] == 502
    assert "longer than" in out.getvalue()


async def test_an_application_that_does_not_answer_is_given_up_in_time() -> None:
    """The wait is bounded, and the reason told."""
    headers = CIMultiDictProxy(CIMultiDict(signed()))
    async with serving(Peer.gone) as application:
        forwarder = Forwarder(application.url, timeout_s=0.02)
        await forwarder.start()
        with pytest.raises(RejectedError, match="no complete answer in time") as caught:
            await forwarder.send(headers, PAYLOAD)
        await forwarder.close()
    assert caught.value.status == 502


async def test_forwarding_to_itself_ends_at_the_first_turn() -> None:
    """What comes back is recognised, whatever name the circle goes through."""
    port = free_port()
    receiver, out = listener(port=port, behaviour=Behaviour(forward=f"http://localhost:{port}/"))
    async with receiver:
        assert (await post(receiver.url, signed()))[0] == 508
    lines = out.getvalue().splitlines()
    assert len([line for line in lines if "leads back" in line]) == 1
    assert len(lines) == 4


@pytest.mark.parametrize("url", ["localhost:3000/hooks", "ftp://h/", "http://u:hunter2@h/", "http://h/#f", "http:///"])
def test_an_unusable_application_is_refused_at_once(url: str) -> None:
    """A typing error is not found out with the first webhook; credentials are not repeated."""
    with pytest.raises(UrlRefusedError) as caught:
        listener(behaviour=Behaviour(forward=url))
    assert "hunter2" not in str(caught.value)


async def test_colours_change_how_a_line_looks_and_not_what_it_says() -> None:
    """Green for what fits, red for what does not."""
    receiver, out = listener(SECRET, behaviour=Behaviour(), paint=in_colour)
    async with receiver:
        await post(receiver.url, signed())
        await post(receiver.url, signed() | {"Webhook-Id": "evt_2"})
    _, good, bad = out.getvalue().splitlines()
    assert "\x1b[32mverified ✓\x1b[0m  lab.completed" in good
    assert "\x1b[31mNOT VERIFIED\x1b[0m" in bad


async def test_when_nobody_reads_its_lines_any_more_it_says_so() -> None:
    """`relay listen | head -1` ends instead of going on in silence."""

    class Closed(io.StringIO):
        def flush(self) -> None:
            if len(self.getvalue().splitlines()) > 2:
                raise BrokenPipeError

    gone = asyncio.Event()
    receiver = Listener(port=0, secrets=[], as_json=False, out=Closed(), gone=gone.set)
    async with receiver:
        assert not gone.is_set()
        assert (await post(receiver.url, signed()))[0] == 204
    assert gone.is_set()
