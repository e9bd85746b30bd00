"""The receiver behind `relay listen`: hear, check or pass on, print one line, answer.

The invariant: with a key it answers with a success only to what a careful subscriber would accept, so a signature that
nobody could verify shows here first. It bounds what it reads and remembers, and of what it refuses it prints only the
reason. How it is told to behave never changes what it prints of a signature.
"""

import asyncio
import contextlib
import json
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, TextIO

from aiohttp import web

from relay.core.signing import verifying_key
from relay.listen.check import RejectedError, decode, fitting_key
from relay.listen.forward import Forwarder
from relay.listen.lines import Heard, Verdict
from relay.terminal import Paint, plain

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_SEEN: Final = 10_000
_MAX_ID: Final = 256
_STOP_S: Final = 1.0
_FAILURE: Final = 500
_HINT: Final = (
    "signatures are NOT checked: give --secret whsec_… (only the answers to POST /v1/subscribers and …/rotate-secret"
    " hold it) or --secret whpk_… (the public_key of a v1a subscriber)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How webhooks are answered."""

    status: int = 204
    """For what was accepted."""
    fail_rate: float = 0.0
    """The share, 0 to 1, that is answered 500 before anything else is done with it."""
    delay_s: float = 0.0
    """How long every answer waits."""
    forward: str | None = None
    """The application whose answer is given instead of `status`."""


class Listener:
    """A receiver that is started and stopped; an async context manager too.

    `secrets` (`whsec_…`) and public keys (`whpk_…`), any of which may have signed (rotation); none skips the check.
    Raises `InvalidSecretError` and `UrlRefusedError`. `port` 0 takes a free one. `now_s` is wall-clock Unix time,
    `chance` gives numbers in [0, 1), and `gone` is called when nobody reads `out` any more.
    """

    def __init__(
        self,
        *,
        port: int,
        secrets: Sequence[str],
        as_json: bool,
        out: TextIO,
        host: str = "127.0.0.1",
        behaviour: Behaviour = Behaviour(),
        paint: Paint = plain,
        now_s: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        gone: Callable[[], None] = lambda: None,
    ) -> None:
        for secret in secrets:
            verifying_key(secret)
        self._address = (host, port)
        self._secrets = tuple(secrets)
        self._as_json = as_json
        self._out = out
        self._behaviour = behaviour
        self._forwarder = Forwarder(behaviour.forward) if behaviour.forward else None
        self._paint = paint
        self._now_s = now_s
        self._chance = chance
        self._gone = gone
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.url = ""
        """Set once started."""

    async def start(self) -> None:
        """Listen, and say where."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/{path:.*}", self._receive)
        # The signed bytes are the sent bytes: nothing is decompressed on the way.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_S, auto_decompress=False)
        await self._runner.setup()
        host, port = self._address
        await web.TCPSite(self._runner, host, port).start()
        if self._forwarder:
            await self._forwarder.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        self._announce()

    async def stop(self) -> None:
        """Stop listening; answers that wait are given now, an application is not waited for."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._forwarder:
            await self._forwarder.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def summary(self) -> str:
        """What has been heard, in one line."""
        total = sum(self._counts[verdict] for verdict in Verdict)
        parts = [
            f"{self._counts[verdict]} {verdict.removesuffix(' ✓').lower()}"
            for verdict in Verdict
            if self._counts[verdict]
        ]
        again = f"; {self._counts['again']} seen before" if self._counts["again"] else ""
        return f"{total} webhook{'' if total == 1 else 's'}{': ' if parts else ''}{', '.join(parts)}{again}"

    def _announce(self) -> None:
        checked = bool(self._secrets)
        forward = self._forwarder.url if self._forwarder else None
        if self._as_json:
            more = {"forward": forward} if forward else {}
            self._print(json.dumps({"listening": self.url, "signatures_checked": checked} | more))
            return
        self._print(f"listening on {self.url}" + (f", forwarding to {forward}" if forward else ""))
        if not checked:
            self._print(_HINT)

    async def _receive(self, request: web.Request) -> web.Response:
        at = datetime.fromtimestamp(self._now_s(), UTC)
        heard, response = await self._answer(request, at)
        self._counts.update([heard.verdict, *(["again"] if heard.seen > 1 else [])])
        self._print(heard.as_json() if self._as_json else heard.as_line(self._paint))
        if self._behaviour.delay_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._behaviour.delay_s)
        return response

    async def _answer(self, request: web.Request, at: datetime) -> tuple[Heard, web.Response]:
        """Say what becomes of a request, and how it is answered."""
        try:
            body = await _read(request)
            if self._forwarder:
                self._forwarder.check_loop(request.headers)
            if self._chance() < self._behaviour.fail_rate:
                heard = Heard(at=at, verdict=Verdict.FAILED, status=_FAILURE, **self._attempt(request))
                return heard, web.Response(status=_FAILURE, text="failed on purpose (--fail-rate)\n")
            key_no = fitting_key(self._secrets, request.headers, body, self._now_s())
            payload = decode(body)
        except RejectedError as error:
            return _refused(at, error)
        heard = Heard(
            at=at,
            verdict=Verdict.UNCHECKED if key_no is None else Verdict.VERIFIED,
            status=self._behaviour.status,
            key_no=key_no if len(self._secrets) > 1 else None,
            payload=payload,
            **self._attempt(request),
        )
        if self._forwarder:
            return await self._pass_on(self._forwarder, request, body, heard)
        return heard, web.Response(status=heard.status)

    async def _pass_on(
        self, forwarder: Forwarder, request: web.Request, body: bytes, heard: Heard
    ) -> tuple[Heard, web.Response]:
        time_s = asyncio.get_running_loop().time
        started = time_s()
        reason = ""
        try:
            response = await forwarder.send(request.headers, body)
        except RejectedError as error:
            reason, response = str(error), _said(error)
        took_ms = round((time_s() - started) * 1000)
        return replace(heard, status=response.status, reason=reason, forwarded_ms=took_ms), response

    def _attempt(self, request: web.Request) -> dict[str, Any]:
        """Which attempt at which webhook this is, as the headers say; and remember it, the oldest forgotten first."""
        webhook_id = _bounded(request.headers.get("webhook-id"))
        told = {"webhook_id": webhook_id, "timestamp": _bounded(request.headers.get("webhook-timestamp"))}
        if webhook_id is None:
            return told
        seen = self._seen[webhook_id] = self._seen.pop(webhook_id, 0) + 1
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        return told | {"seen": seen}

    def _print(self, line: str) -> None:
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except BrokenPipeError:
            self._gone()


def _bounded(header: str | None) -> str | None:
    return header[:_MAX_ID] if header is not None else None


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise RejectedError(413, f"the body is longer than {MAX_BODY_BYTES} bytes") from None


def _refused(at: datetime, error: RejectedError) -> tuple[Heard, web.Response]:
    return Heard(at=at, verdict=Verdict.REFUSED, status=error.status, reason=str(error)), _said(error)


def _said(error: RejectedError) -> web.Response:
    return web.Response(status=error.status, text=f"{error}\n")
