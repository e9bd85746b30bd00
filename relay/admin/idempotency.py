"""`Idempotency-Key` on every POST that changes something: it is carried out once, and repeats are answered alike.

The header is that of draft-ietf-httpapi-idempotency-key-header.

- The answer of a request that was carried out (2xx) is kept for a day from its first try, sealed: it may hold a new
  secret. A repeat gets it with `Idempotency-Replayed: true`; a 409 that says so if it is not kept: it was too large,
  memory was full, or a learner was erased since.
- A refused request (4xx) has changed nothing. Its key is free again, for the mended body too.
- One that failed (5xx), or whose relay died, may have changed something. The repeat is carried out with the same
  *seed*, of which `new_id` makes the id of a subscriber or a replay: it finds what the try before has made. What makes
  nothing with an id is carried out again; a rotation rotates out the secret of which nobody was told.
- While it is under way, on any replica, a repeat gets 409 with `Retry-After`. The record is held on to by renewing it,
  so that of a relay that died it is free within `HOLD_S`.

An answer may show what a subscriber echoed, or a filter, and so a learner. It is sealed by keys that are made of the
relay's and of a salt that was read before the request was carried out. An erasure removes the salt when all else is
gone: whatever was kept before, or is kept later by a request that was under way, can be opened by nobody.

Keys belong to a token, a method and a path. What stands in the store tells neither the key nor the body: both are
hashed, the body with the token's digest, which is not there.
"""

import asyncio
import hashlib
import hmac
import os
import random
import re
import secrets
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec
import structlog
from aiohttp import web

from relay.admin.problems import FieldError, ProblemError, invalid
from relay.admin.requests import read_body
from relay.admin.routes import Handler
from relay.admin.security import REQUEST_ID, TOKEN_DIGEST
from relay.core.keyring import NONCE_BYTES, Keyring, UnreadableSecretError
from relay.store.errors import STORE_ERRORS
from relay.store.idempotency import Begin, IdempotencyStore

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
KEY_PATTERN: Final = r"[\x21-\x7e]{1,255}"
TTL_S: Final = 86_400
HOLD_S: Final = 10.0
"""A request is taken to have died when nobody has said for so long that it is under way."""
MAX_ANSWER_BYTES: Final = 64 * 1024
RETRY_S: Final = 1
"""After which to ask again for what is under way; most of it takes milliseconds."""

_SEED: Final = web.RequestKey("idempotency_seed", str)
"""Of a request with a key: the same for every try."""
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH: Final = 22
_SUCCESS: Final = range(200, 300)
_SERVER_ERROR: Final = 500
_DONE: Final = (
    "it was carried out, but its answer is not kept: it was too large, memory was full, a learner was erased since, "
    "or the key that sealed it is gone; look at what it made"
)

log = structlog.get_logger()


class _Answer(msgspec.Struct, array_like=True):
    """What is kept."""

    status: int
    headers: dict[str, str]
    body: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Answer).decode


class Idempotency:
    """Wraps handlers."""

    def __init__(self, store: IdempotencyStore, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring

    def wrap(self, handler: Handler) -> Handler:
        """A handler that honours the key, if a request has one."""
        return partial(self._handle, handler)

    async def _handle(self, handler: Handler, request: web.Request) -> web.StreamResponse:
        given = request.headers.getall(HEADER, [])
        if not given:
            return await handler(request)
        if len(given) > 1 or not re.fullmatch(KEY_PATTERN, given[0]):
            raise invalid(FieldError(f"/{HEADER}", "must be one key of 1 to 255 visible ASCII characters"))
        record, fingerprint = _names(request, given[0], await read_body(request))
        owner = secrets.token_hex(16)
        begin = await self._store.begin(record, fingerprint, owner, hold_ms=int(HOLD_S * 1000), ttl_ms=TTL_S * 1000)
        if begin.kind == "answered":
            return self._replayed(record, begin)
        if begin.kind == "under way":
            wait = {"Retry-After": str(RETRY_S)}
            raise ProblemError("conflict", "a request with this Idempotency-Key is under way: wait", headers=wait)
        if begin.kind == "other":
            raise invalid(FieldError(f"/{HEADER}", "was used with another body: send a new key, or the same body"))
        request[_SEED] = begin.seed
        response = await self._carried_out(handler, request, record, owner)
        if isinstance(response, web.Response) and response.status in _SUCCESS:
            await self._keep(response, request, record, owner, begin.salt)
        else:
            await self._store.refuse(record, owner)
        return response

    async def _carried_out(self, handler: Handler, request: web.Request, record: str, owner: str) -> web.StreamResponse:
        keeper = asyncio.create_task(self._hold(record, owner))
        try:
            return await handler(request)
        except (ProblemError, web.HTTPException) as error:
            # A store that is away leaves the record as it is: it is free when nobody holds on to it any more.
            with suppress(*STORE_ERRORS):
                finish = self._store.refuse if error.status < _SERVER_ERROR else self._store.fail
                await finish(record, owner)
            raise
        except Exception:
            with suppress(*STORE_ERRORS):
                await self._store.fail(record, owner)
            raise
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _hold(self, record: str, owner: str) -> None:
        while True:
            await asyncio.sleep(HOLD_S / 3)
            with suppress(*STORE_ERRORS):
                await self._store.hold(record, owner, int(HOLD_S * 1000))

    async def _keep(self, response: web.Response, request: web.Request, record: str, owner: str, salt: str) -> None:
        """What was carried out is answered with, whether or not that can be kept."""
        body = response.body if isinstance(response.body, bytes) else b""
        try:
            if len(body) > MAX_ANSWER_BYTES:
                await self._store.done(record, owner)
                return
            kept = _encode(_Answer(response.status, dict(response.headers), body.decode())).decode()
            await self._store.keep(record, owner, self._keys(salt).seal(kept, record, os.urandom(NONCE_BYTES)))
        except STORE_ERRORS as error:
            log.warning("admin.answer_not_kept", error=type(error).__name__, request_id=request[REQUEST_ID])

    def _replayed(self, record: str, begin: Begin) -> web.Response:
        try:
            answer = _decode(self._keys(begin.salt).open(begin.answer, record))
        except UnreadableSecretError:
            raise ProblemError("conflict", _DONE) from None
        return web.Response(
            body=answer.body.encode(), status=answer.status, headers={**answer.headers, REPLAYED: "true"}
        )

    def _keys(self, salt: str) -> Keyring:
        """What seals and opens answers for as long as the salt stands in the store."""
        return Keyring(self._keyring.derived(f"answers {salt}"))


def new_id(prefix: str, request: web.Request, rng: random.Random) -> str:
    """A random id; every try of a request with an idempotency key makes the same."""
    source = random.Random(request[_SEED]) if _SEED in request else rng
    return prefix + "".join(source.choices(_ALPHABET, k=_ID_LENGTH))


def _names(request: web.Request, key: str, body: bytes) -> tuple[str, str]:
    """The record's name, and the body's fingerprint."""
    token = request[TOKEN_DIGEST]
    named = b"\0".join((token, request.method.encode(), request.rel_url.raw_path.encode(), key.encode()))
    return hashlib.sha256(named).hexdigest(), hmac.new(token, body, hashlib.sha256).hexdigest()
