"""What both upstream clients share: a bounded exchange, faults as `FetchError`, and pacing.

The invariant: an answer is bounded in time and bytes, a redirect is never followed, and no message or
chained exception carries a credential, a query string, or anything that an upstream wrote.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple, TypeVar
from weakref import WeakValueDictionary

import aiohttp
import msgspec

from relay import __version__
from relay.core.errors import ConfigError, FetchError

DEFAULT_CAP = 512 * 1024 * 1024
"""Bytes that one answer may have: seven busy LOD days in one body are large, endless is larger."""
THREAD_ABOVE = 1_000_000
"""Bytes from which on a body is decoded off the event loop's thread."""
MAX_RETRY_AFTER_S = 86_400.0

T = TypeVar("T")


class Answer(NamedTuple):
    """A complete HTTP answer of any status."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytearray


class Pacer:
    """Lets at most `limit` requests start in any `span_s` seconds.

    It reads the event loop's clock, which is the one that its sleeps go by: under virtual time both agree.
    """

    def __init__(self, limit: int, span_s: float) -> None:
        self._starts: deque[float] = deque(maxlen=limit)
        self._limit = limit
        self._span_s = span_s

    async def turn(self) -> None:
        """Wait until one more request may start."""
        loop = asyncio.get_running_loop()
        while len(self._starts) == self._limit:
            wait_s = self._starts[0] + self._span_s - loop.time()
            if wait_s <= 0:
                break
            await asyncio.sleep(wait_s)
        self._starts.append(loop.time())


_shared_pacers: WeakValueDictionary[tuple[str, str], Pacer] = WeakValueDictionary()


def shared_pacer(base_url: str, account: str, limit: int, span_s: float) -> Pacer:
    """Return the one pacer of all sources that ask the same upstream with the same account."""
    pacer = _shared_pacers.get((base_url, account))
    if pacer is None:
        pacer = _shared_pacers[base_url, account] = Pacer(limit, span_s)
    return pacer


async def fetch(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    timeout_s: float,
    data: Mapping[str, str] | None = None,
    cap: int = DEFAULT_CAP,
) -> Answer:
    """Send one request and read its whole answer within `timeout_s` and `cap` bytes; `data` goes as a form.

    Raises `FetchError` with reason `connect`, `timeout` or `too_large`; every status is an answer. The
    session must decompress (aiohttp's default): the cap counts what came out.
    """
    try:
        async with session.request(
            method,
            url,
            headers={"User-Agent": f"relay/{__version__}", "Accept": "application/json", **headers},
            data=data,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as response:
            body = await _read(response, cap)
            return Answer(response.status, response.headers, body)
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        fault = _classify(error, timeout_s)
    # Raised out here: aiohttp's exceptions hold the request's headers, and a chained traceback could print
    # them.
    raise fault


async def _read(response: aiohttp.ClientResponse, cap: int) -> bytearray:
    """Read a body up to `cap` bytes."""
    body = bytearray()
    if (response.content_length or 0) <= cap:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > cap:
                break
        else:
            return body
    raise FetchError("too_large", f"the answer is larger than {cap} bytes; ask for less")


def _classify(error: Exception, timeout_s: float) -> FetchError:
    """Name a transport fault by its exception's type; its text may hold anything and is not used."""
    match error:
        case TimeoutError():
            return FetchError("timeout", f"no complete answer within {timeout_s:g} s; will be asked again")
        case aiohttp.InvalidURL():
            return FetchError("connect", "base_url is not a usable URL: check the settings")
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return FetchError("connect", "TLS failed: check the certificate behind base_url")
        case aiohttp.ClientConnectorDNSError():
            return FetchError("connect", "the name in base_url does not resolve: check it and the DNS")
        case aiohttp.ClientConnectorError():
            return FetchError("connect", "no connection: check base_url and the way out of this network")
        case aiohttp.ClientPayloadError():
            return FetchError("connect", "the connection broke off in the middle of an answer; will be asked again")
        case aiohttp.ClientResponseError():
            return FetchError("connect", "the answer is not HTTP: check base_url")
    return FetchError("connect", "the connection broke off before an answer; will be asked again")


def status_fault(answer: Answer, now: datetime) -> FetchError:
    """Say what an HTTP status other than 200 means for a poll."""
    status = answer.status
    after_s = retry_after_s(answer.headers.get("Retry-After"), now)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return FetchError("refused", f"HTTP {status}: check the credentials", retry_after_s=after_s)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return FetchError("rate_limited", "HTTP 429: asked too often", retry_after_s=after_s)
    if status < HTTPStatus.MULTIPLE_CHOICES:
        advice = "an answer without rows: is something in between?"
    elif status < HTTPStatus.BAD_REQUEST:
        advice = "a redirect, which is never followed: check base_url"
    elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
        advice = "check base_url and the version in the settings"
    else:
        advice = "a fault of the upstream; will be asked again"
    return FetchError("http_status", f"HTTP {status}: {advice}", retry_after_s=after_s)


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Read `Retry-After` (RFC 9110, 10.2.3) as seconds from `now` in [0, one day]; None if absent or nonsense."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:  # "-0000": a UTC time of unknown zone
        at = at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), MAX_RETRY_AFTER_S)


async def decode(body: bytearray, read: Callable[[bytearray], T]) -> T:
    """Apply `read` to a body, in a thread if it is large; a body that is not the expected JSON is a fault."""
    try:
        if len(body) > THREAD_ABOVE:
            return await asyncio.to_thread(read, body)
        return read(body)
    except msgspec.ValidationError:
        fault = FetchError("upstream_error", "the answer is JSON, but not in the documented shape")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fault = FetchError("not_json", "the answer is not valid JSON; nothing advances, it is asked again")
    raise fault


def require_header_text(setting: str, value: str) -> str:
    """Return a credential that HTTP can carry, or raise `ConfigError`: a secret's file often ends in a newline."""
    if not (value and value.isascii() and value.isprintable()):
        raise ConfigError(f"{setting} is empty or holds a character that no HTTP header may carry")
    return value
