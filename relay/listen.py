"""`relay listen`: a receiver for development that verifies each webhook and prints it on one line.

The invariant: with a secret it answers 204 only to what a careful subscriber would accept, so a signature that nobody
could verify shows here first. It bounds what it reads and remembers, and of what it refuses it prints only the reason.
"""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, TextIO

from aiohttp import web

from relay.core.signing import verify, verifying_key

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_SEEN: Final = 10_000
TOLERANCE_S: Final = 300
"""Allowed age or lead of a webhook's timestamp, as the Standard Webhooks specification suggests."""
_MAX_SHOWN: Final = 120
_MAX_TIMESTAMP_DIGITS: Final = 12
_HINT: Final = (
    "signatures are NOT checked: give --secret whsec_… (only the answers to POST /v1/subscribers and …/rotate-secret"
    " hold it) or --secret whpk_… (the public_key of a v1a subscriber)"
)


class _RejectedError(Exception):
    """The webhook is not accepted; carries the HTTP status and a short reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Received:
    """What is worth showing of one webhook."""

    at: datetime
    verified: bool | None
    """None: no secret was given, so nothing was checked."""
    webhook_id: str
    duplicate: bool
    payload: Any

    def as_line(self) -> str:
        """One line for people."""
        data = _member(self.payload, "data")
        entity = _member(data, "entity")
        transition = _member(data, "transition")
        parts = [
            self.at.strftime("%H:%M:%S"),
            "not checked" if self.verified is None else "verified ✓",
            _text(_member(self.payload, "type"), "?"),
            f"{_text(_member(entity, 'kind'))} {_text(_member(entity, 'id'))}".strip(),
            f"{_text(_member(transition, 'from'))} → {_text(_member(transition, 'to'))}" if transition else "",
            self.webhook_id,
            "DUPLICATE" if self.duplicate else "",
        ]
        return "  ".join(part for part in parts if part)

    def as_json(self) -> str:
        """One JSON object on a line, the payload included."""
        fields = {
            "at": _rfc3339(self.at),
            "verified": self.verified,
            "webhook_id": self.webhook_id,
            "duplicate": self.duplicate,
            "payload": self.payload,
        }
        return json.dumps(fields)


class Listener:
    """A receiver that is started and stopped; an async context manager too.

    `secrets` (`whsec_…`) and public keys (`whpk_…`), any of which may have signed (rotation); none skips the check.
    Raises `InvalidSecretError`. `port` 0 takes a free one. `now_s` is wall-clock Unix time.
    """

    def __init__(
        self,
        *,
        port: int,
        secrets: Sequence[str],
        as_json: bool,
        out: TextIO,
        host: str = "127.0.0.1",
        now_s: Callable[[], float] = time.time,
    ) -> None:
        for secret in secrets:
            verifying_key(secret)
        self._address = (host, port)
        self._secrets = tuple(secrets)
        self._as_json = as_json
        self._out = out
        self._now_s = now_s
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._runner: web.AppRunner | None = None
        self.url = ""
        """Set once started."""

    async def start(self) -> None:
        """Listen, and say where."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/{path:.*}", self._receive)
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None)
        await self._runner.setup()
        host, port = self._address
        await web.TCPSite(self._runner, host, port).start()
        port = self._runner.addresses[0][1]
        self.url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        self._announce()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _announce(self) -> None:
        checked = bool(self._secrets)
        if self._as_json:
            self._print(json.dumps({"listening": self.url, "signatures_checked": checked}))
            return
        self._print(f"listening on {self.url}")
        if not checked:
            self._print(_HINT)

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        at = datetime.fromtimestamp(self._now_s(), UTC)
        try:
            verified = self._check(request, body)
            payload = _decode(body)
        except _RejectedError as error:
            self._print_rejected(at, str(error))
            return web.Response(status=error.status, text=f"{error}\n")
        received = Received(at, verified, *self._remember(request), payload)
        self._print(received.as_json() if self._as_json else received.as_line())
        return web.Response(status=204)

    def _check(self, request: web.Request, body: bytes) -> bool | None:
        """Return True if verified, None if there is nothing to verify with; raises `_RejectedError`."""
        if not self._secrets:
            return None
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        webhook_id, timestamp, signature = (request.headers.get(name, "") for name in names)
        if not (webhook_id and timestamp and signature):
            raise _RejectedError(400, f"a webhook needs the headers {', '.join(names)}")
        if not (webhook_id + timestamp + signature).isascii() or not timestamp.isdigit():
            raise _RejectedError(400, "webhook-timestamp must be Unix seconds, and all three headers ASCII")
        if len(timestamp) > _MAX_TIMESTAMP_DIGITS or abs(self._now_s() - int(timestamp)) > TOLERANCE_S:
            raise _RejectedError(401, "webhook-timestamp is more than five minutes away from this clock")
        if not verify(self._secrets, webhook_id, int(timestamp), body, signature):
            raise _RejectedError(401, "webhook-signature does not fit: another secret, or the body was changed")
        return True

    def _remember(self, request: web.Request) -> tuple[str, bool]:
        """Return the webhook's id in printable form, and whether it was accepted before."""
        webhook_id = _text(request.headers.get("webhook-id"), "-")
        duplicate = webhook_id != "-" and webhook_id in self._seen
        self._seen[webhook_id] = None
        self._seen.move_to_end(webhook_id)
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        return webhook_id, duplicate

    def _print_rejected(self, at: datetime, reason: str) -> None:
        if self._as_json:
            self._print(json.dumps({"at": _rfc3339(at), "verified": False, "reason": reason}))
        else:
            self._print(f"{at:%H:%M:%S}  NOT VERIFIED  {reason}")

    def _print(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()


async def serve(port: int, secrets: Sequence[str], *, as_json: bool, out: TextIO, host: str = "127.0.0.1") -> None:
    """Receive until cancelled."""
    async with Listener(port=port, secrets=secrets, as_json=as_json, out=out, host=host):
        await asyncio.Event().wait()


def _decode(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise _RejectedError(400, "the body is not JSON") from None


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: Any, absent: str = "-") -> str:
    """Text that cannot steer a terminal or flood it."""
    if value is None:
        return absent
    return "".join(char if char.isprintable() else "�" for char in str(value)[:_MAX_SHOWN])


def _rfc3339(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
