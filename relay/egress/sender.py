"""One attempt: POST, judge the answer, never raise for what a subscriber can do.

The invariant: an attempt ends within its time, reads at most a few KiB, and comes to exactly one `Reply`. An
answer counts from its complete headers; what follows them can neither undo a success nor hold the connection.
"""

import asyncio
import contextlib
import errno
import functools
import re
import ssl
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Self

from aiohttp import (
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientError,
    ClientPayloadError,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    DummyCookieJar,
)
from yarl import URL

from relay.clock import Clock, SystemClock
from relay.core.addresses import Network, UrlRefusedError, check_url
from relay.core.outcome import Outcome, Reply
from relay.egress.resolver import AddressBlockedError, GuardedResolver
from relay.egress.transport import GuardedConnector, GuardedRequest, resend_if_stale

DRAIN_BYTES: Final = 4096
DRAIN_S: Final = 1.0
EXCERPT_BYTES: Final = 1024
MAX_HEADERS: Final = 128
MAX_HEADER_BYTES: Final = 8190
_REMEMBERED_URLS: Final = 4096
_RETRY_LATER: Final = frozenset({429, 503})
_SECONDS: Final = re.compile(r"[0-9]+(\.[0-9]+)?(e[0-9]+)?", re.IGNORECASE | re.ASCII)
_FAILURES: Final = (ClientError, OSError, ValueError)


class Sender:
    """The guarded HTTP client; an async context manager, or `start` and `close`.

    `connections` must lie above the number of attempts at once: waiting for a connection takes from their time.
    `tls` replaces the default trust store (a private CA), never verification itself.
    """

    def __init__(
        self,
        *,
        allow: Sequence[Network],
        allow_http: bool,
        user_agent: str,
        connections: int = 2000,
        resolver: GuardedResolver | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._allow = tuple(allow)
        self._user_agent = user_agent
        self._connections = connections
        self._resolver = resolver or GuardedResolver(self._allow)
        self._tls = tls
        self._clock = clock or SystemClock()
        self._session: ClientSession | None = None
        self._target = functools.lru_cache(_REMEMBERED_URLS)(
            functools.partial(_target, allow_http=allow_http, allow=self._allow)
        )

    async def start(self) -> None:
        """Open the pool; needs a running loop."""
        self._session = ClientSession(
            connector=GuardedConnector(
                self._allow, self._resolver, connections=self._connections, ssl=self._tls or True
            ),
            request_class=GuardedRequest,
            middlewares=(resend_if_stale,),
            headers={"User-Agent": self._user_agent},
            skip_auto_headers=("Accept-Encoding",),
            cookie_jar=DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=ClientTimeout(total=None, sock_connect=None),  # one deadline bounds the whole attempt
            max_headers=MAX_HEADERS,
            max_field_size=MAX_HEADER_BYTES,
            max_line_size=MAX_HEADER_BYTES,
        )

    async def close(self) -> None:
        """Close every connection; attempts in flight end as failures."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float) -> Reply:
        """Send `body` once and say what came of it within `timeout_s`; header names go out as they are given."""
        if self._session is None:
            raise RuntimeError("the sender was not started")
        time = asyncio.get_running_loop().time
        started = time()
        deadline = started + timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._session.post(
                    self._target(url), data=body, headers=headers, allow_redirects=False
                )
        except (UrlRefusedError, *_FAILURES) as error:
            outcome, detail = classify_failure(error)
            return Reply(outcome, duration_ms=round((time() - started) * 1000), detail=detail)
        duration_ms = round((time() - started) * 1000)
        excerpt = await _drain(response, min(deadline, time() + DRAIN_S))
        return self._judge(response, duration_ms, excerpt)

    def _judge(self, response: ClientResponse, duration_ms: int, excerpt: bytes) -> Reply:
        status = response.status
        if 200 <= status < 300:  # noqa: PLR2004 - the classes of RFC 9110
            return Reply(Outcome.DELIVERED, status, duration_ms=duration_ms)
        outcome = Outcome.REDIRECT if 300 <= status < 400 else Outcome.STATUS  # noqa: PLR2004 - RFC 9110
        retry_after_s = None
        if status in _RETRY_LATER:
            retry_after_s = parse_retry_after(response.headers.get("Retry-After", ""), self._clock.now())
        return Reply(outcome, status, retry_after_s, duration_ms, f"HTTP {status}", excerpt[:EXCERPT_BYTES])


def _target(url: str, *, allow_http: bool, allow: tuple[Network, ...]) -> URL:
    # Encoded: what was checked is sent, byte for byte; nothing parses or quotes it again.
    return URL(check_url(url, allow_http=allow_http, allow=allow).url, encoded=True)


async def _drain(response: ClientResponse, deadline: float) -> bytes:
    """Read on to the end within bounds, so that the connection can be kept; otherwise close it.

    Returns what was read. Nothing that goes wrong here changes what the attempt came to.
    """
    content = response.content
    if content.is_eof() and content.exception() is None:  # it came with the headers, as it nearly always does
        return content.read_nowait(-1)
    chunks: list[bytes] = []
    size = 0
    try:
        with contextlib.suppress(*_FAILURES):
            async with asyncio.timeout_at(deadline):
                while size <= DRAIN_BYTES and not content.at_eof():
                    chunk = await content.read(DRAIN_BYTES + 1 - size)
                    chunks.append(chunk)
                    size += len(chunk)
    finally:
        if not content.is_eof():  # at its end aiohttp itself has given the connection back
            response.close()
    return b"".join(chunks)


def classify_failure(error: Exception) -> tuple[Outcome, str]:
    """Say what an exception of an attempt means; the detail names no path, secret or byte of an answer."""
    match error:
        case UrlRefusedError() | AddressBlockedError():
            return Outcome.BLOCKED, str(error)
        case ClientSSLError() | ssl.SSLError():
            return Outcome.TLS, _tls_detail(error)
        case ClientConnectorError(os_error=AddressBlockedError() as blocked):
            return Outcome.BLOCKED, str(blocked)
        case ClientConnectorDNSError():
            return Outcome.DNS, str(error.os_error)
        case ClientResponseError() | ClientPayloadError():
            return Outcome.BODY, "the answer is not valid HTTP/1.1, or its headers are too many or too long"
        case TimeoutError():
            return Outcome.TIMEOUT, "no complete answer in time"
        case ClientError() | OSError():
            return _connection_failure(error)
        case _:
            return Outcome.BLOCKED, "a header cannot be sent: it holds a character that HTTP forbids"


def _connection_failure(error: Exception) -> tuple[Outcome, str]:
    """A refused, unreachable or lost connection; TLS may also fail after its handshake (a client certificate)."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLError):
        return Outcome.TLS, _tls_detail(cause)
    refused = isinstance(error, ClientConnectorError)
    what = "cannot connect" if refused else "the connection was lost before an answer"
    name = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
    return Outcome.CONNECT, f"{what} ({name})" if name else what


def _tls_detail(error: BaseException) -> str:
    cause = error.os_error if isinstance(error, ClientConnectorError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate was refused: {cause.verify_message}"
    reason = cause.reason if isinstance(cause, ssl.SSLError) else None
    return f"the TLS connection failed: {reason or type(cause).__name__}"


def parse_retry_after(value: str, now: datetime) -> float | None:
    """Seconds from `now` that a `Retry-After` asks for (RFC 9110, 10.2.3), or None if it says nothing sensible.

    A past date is 0; a number beyond a float's range is the largest float.
    """
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), sys.float_info.max)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if date.tzinfo is None:  # "-0000" says: no zone known
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())
