"""Who may call, and the record of what was changed.

Tokens are compared by hash, in constant time, with every configured one. A token that fits is never slowed down by
those that do not: otherwise anybody could lock the operator out. So 429 keeps no guesser away (the length of tokens
does): it asks a script whose token was revoked to wait. Refusals are counted, and told in one warning a minute.
"""

import hashlib
import hmac
import math
from collections.abc import Collection, Sequence
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from relay.admin.problems import ProblemError
from relay.clock import Clock
from relay.telemetry import Metrics, Seldom

ACTOR: Final = web.RequestKey("actor", str)
TOKEN_DIGEST: Final = web.RequestKey("token_digest", bytes)
REQUEST_ID: Final = web.RequestKey("request_id", str)

_REFUSALS: Final = 20
_REFUSALS_PER_S: Final = 1.0
_ACTOR_LENGTH: Final = 8

log = structlog.get_logger()


class Bucket:
    """A token bucket: `size` at once, then `per_s`."""

    def __init__(self, clock: Clock, size: float, per_s: float) -> None:
        self._clock = clock
        self._size = size
        self._per_s = per_s
        self._level = size
        self._at = clock.monotonic()

    def take(self) -> float:
        """Take one; seconds until there is one again if there is none, else 0."""
        now = self._clock.monotonic()
        self._level = min(self._size, self._level + (now - self._at) * self._per_s)
        self._at = now
        if self._level < 1:
            return (1 - self._level) / self._per_s
        self._level -= 1
        return 0.0


def authentication(tokens: Sequence[str], clock: Clock, metrics: Metrics, public: Collection[str] = ()) -> Middleware:
    """Let only requests with one of the tokens through, except to the paths of `public` routes."""
    digests = [hashlib.sha256(token.encode()).digest() for token in tokens]
    refusals = Bucket(clock, _REFUSALS, _REFUSALS_PER_S)
    warning = Seldom("admin.tokens_refused")

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is not None and resource.canonical in public:
            return await handler(request)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _refused("send the header Authorization: Bearer TOKEN")
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        # All are compared, whichever fits: the time says nothing.
        if not any([hmac.compare_digest(digest, one) for one in digests]):  # noqa: C419 - all of them, see above
            metrics.refused_tokens.inc()
            warning.tell()
            wait_s = refusals.take()
            if wait_s:
                headers = {"Retry-After": str(math.ceil(wait_s))}
                raise ProblemError("too-many-refused-tokens", "wait, then send a valid token", headers=headers)
            raise _refused("the token is not one of RELAY_ADMIN_TOKENS (or of the admin-token file)")
        request[TOKEN_DIGEST] = digest
        request[ACTOR] = digest.hex()[:_ACTOR_LENGTH]
        return await handler(request)

    return check


def _refused(detail: str) -> ProblemError:
    return ProblemError("unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="relay"'})


def audit(request: web.Request, action: str, target: str) -> None:
    """One line per change: who, what, to what; never what it was changed to."""
    log.info("admin.change", actor=request[ACTOR], action=action, target=target, request_id=request[REQUEST_ID])
