"""Receivers as subscribers write them: one that conforms, and ones with a single flaw each."""

import base64
import hashlib
import hmac
import json
import time
from asyncio import sleep
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")


class Conforming:
    """Verifies by itself, without the relay's code, and accepts what is genuine; its parts are there to be broken."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer one webhook."""
        body = await request.read()
        told = self.headers(request)
        if not (all(told) and self.is_genuine(*told, body) and self.is_fresh(int(told[1]))):
            return web.Response(status=401)
        return await self.process(request, json.loads(body), told[0])

    def headers(self, request: web.Request) -> tuple[str, str, str]:
        """Id, timestamp and signature."""
        webhook_id, timestamp, signature = (request.headers.get(name, "") for name in NAMES)
        return webhook_id, timestamp, signature

    def is_genuine(self, webhook_id: str, timestamp: str, signature: str, body: bytes) -> bool:
        """Whether any signature fits."""
        signed = f"{webhook_id}.{timestamp}.".encode() + self.signed_body(body)
        return any(self.fits(scheme, text, signed) for scheme, text in self.signatures(signature))

    def signatures(self, header: str) -> list[tuple[str, str]]:
        """Scheme and text of each."""
        pairs = (one.partition(",") for one in header.split(" "))
        return [(scheme, text) for scheme, _, text in pairs]

    def signed_body(self, body: bytes) -> bytes:
        """What of the body is signed."""
        return body

    def fits(self, scheme: str, text: str, signed: bytes) -> bool:
        """Whether one signature does."""
        expected = base64.b64encode(hmac.digest(self.key, signed, hashlib.sha256)).decode()
        return scheme == "v1" and hmac.compare_digest(expected, text)

    def is_fresh(self, timestamp_s: int) -> bool:
        """Whether the time is near."""
        return abs(time.time() - timestamp_s) <= 300

    async def process(self, request: web.Request, event: Mapping[str, Any], webhook_id: str) -> web.StreamResponse:  # noqa: ARG002 - for those with flaws
        """Do the work."""
        return web.Response(status=204)


class Asymmetric(Conforming):
    """Verifies `v1a` with a public key."""

    def fits(self, scheme: str, text: str, signed: bytes) -> bool:
        """Whether one signature does."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(base64.b64decode(text), signed)
        except (InvalidSignature, ValueError):
            return False
        return scheme == "v1a"


class Confused(Asymmetric):
    """Lets the header choose what its key is."""

    def fits(self, scheme: str, text: str, signed: bytes) -> bool:
        """Take either scheme."""
        return super().fits(scheme, text, signed) if scheme == "v1a" else Conforming.fits(self, scheme, text, signed)


class Credulous(Conforming):
    """Accepts everything."""

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Ask nothing."""
        await request.read()
        return web.Response(status=200)


class Reserialising(Conforming):
    """Verifies what its framework makes of the body."""

    def signed_body(self, body: bytes) -> bytes:
        """Write it anew."""
        return json.dumps(json.loads(body), separators=(",", ":")).encode()


class Forgetful(Conforming):
    """Does not look at the time."""

    def is_fresh(self, timestamp_s: int) -> bool:  # noqa: ARG002 - that is the flaw
        """Take any."""
        return True


class Unforeseeing(Conforming):
    """Knows that time passes, not that it may lie ahead."""

    def is_fresh(self, timestamp_s: int) -> bool:
        """Take the future."""
        return time.time() - timestamp_s <= 300


class Indifferent(Conforming):
    """Verifies with the id that the body names, and believes the header's."""

    def is_genuine(self, webhook_id: str, timestamp: str, signature: str, body: bytes) -> bool:
        """Try the body's own id in place of the header's."""
        inner = json.loads(body)["data"]["event_id"]
        return super().is_genuine(inner, timestamp, signature, body) and bool(webhook_id)


class FirstSignature(Conforming):
    """Looks at one signature only."""

    def signatures(self, header: str) -> list[tuple[str, str]]:
        """Leave the others out."""
        return super().signatures(header)[:1]


class CaseSensitive(Conforming):
    """Compares header names as they come."""

    def headers(self, request: web.Request) -> tuple[str, str, str]:
        """Find lower-case names only."""
        raw = {name.decode(): text.decode() for name, text in request.raw_headers}
        webhook_id, timestamp, signature = (raw.get(name, "") for name in NAMES)
        return webhook_id, timestamp, signature


class CrashesOnMissing(Conforming):
    """Takes headers for granted."""

    def headers(self, request: web.Request) -> tuple[str, str, str]:
        """Break where one is missing."""
        webhook_id, timestamp, signature = (request.headers.get(name) for name in NAMES)
        if webhook_id is None or timestamp is None or signature is None:
            raise web.HTTPInternalServerError
        return webhook_id, timestamp, signature


class Strict(Conforming):
    """Knows today's types only, and breaks at others."""

    async def process(self, request: web.Request, event: Mapping[str, Any], webhook_id: str) -> web.StreamResponse:
        """Break at a type without a place in its table."""
        if event["type"] == "lab.not_yet_invented":
            raise web.HTTPInternalServerError
        return await super().process(request, event, webhook_id)


class Rigid(Conforming):
    """Allows no field that it does not know."""

    async def process(self, request: web.Request, event: Mapping[str, Any], webhook_id: str) -> web.StreamResponse:
        """Refuse them."""
        if event.keys() != {"type", "timestamp", "data"}:
            return web.Response(status=422)
        return await super().process(request, event, webhook_id)


class Picky(Conforming):
    """Wants labs only."""

    async def process(self, request: web.Request, event: Mapping[str, Any], webhook_id: str) -> web.StreamResponse:
        """Refuse what it has not subscribed to."""
        if not event["type"].startswith("lab."):
            return web.Response(status=400)
        return await super().process(request, event, webhook_id)


class Once(Conforming):
    """Takes a duplicate for an error."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.seen: set[str] = set()

    async def process(self, request: web.Request, event: Mapping[str, Any], webhook_id: str) -> web.StreamResponse:
        """Answer 409 the second time."""
        if webhook_id in self.seen:
            return web.Response(status=409)
        self.seen.add(webhook_id)
        return await super().process(request, event, webhook_id)


class Crowded(Conforming):
    """Has room for eight at once."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.inside = 0

    async def process(self, request: web.Request, event: Mapping[str, Any], webhook_id: str) -> web.StreamResponse:
        """Refuse the ninth."""
        self.inside += 1
        try:
            if self.inside > 8:
                return web.Response(status=503)
            await sleep(0.02 if event["type"] == "lab.completed" else 0)
            return await super().process(request, event, webhook_id)
        finally:
            self.inside -= 1


class Moved(Conforming):
    """Lives elsewhere."""

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Say where."""
        await request.read()
        return web.Response(status=301, headers={"Location": "/"})


class Strange(Conforming):
    """Has another key."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key[::-1])


class Slow(Conforming):
    """Works before it answers, at the first webhook of a type."""

    def __init__(self, key: bytes, event_type: str = "lab.completed", delay_s: float = 0.06) -> None:
        super().__init__(key)
        self.event_type: str | None = event_type
        self.delay_s = delay_s

    async def process(self, request: web.Request, event: Mapping[str, Any], webhook_id: str) -> web.StreamResponse:
        """Wait once."""
        if event["type"] == self.event_type:
            self.event_type = None
            await sleep(self.delay_s)
        return await super().process(request, event, webhook_id)


class Mortal(Conforming):
    """Dies of an unknown type, for good."""

    dead = False

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Close connections once dead."""
        if self.dead and request.transport is not None:
            request.transport.abort()
        return await super().take(request)

    async def process(self, request: web.Request, event: Mapping[str, Any], webhook_id: str) -> web.StreamResponse:
        """Die, or not."""
        if event["type"] == "lab.not_yet_invented" and request.transport is not None:
            self.dead = True
            request.transport.abort()
        return await super().process(request, event, webhook_id)


class Limited(Credulous):
    """Limits its rate as soon as something does not verify."""

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer 429 to what Conforming refuses."""
        answer = await Conforming.take(self, request)
        return web.Response(status=429) if answer.status == 401 else answer


@asynccontextmanager
async def receiving(
    receiver: Conforming, *, max_body: int = 1024 * 1024, any_method: bool = False
) -> AsyncIterator[str]:
    """Run a receiver; yields its URL."""
    app = web.Application(client_max_size=max_body)
    add: Callable[..., object] = app.router.add_route
    add("*" if any_method else "POST", "/hooks", receiver.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    finally:
        await runner.cleanup()
