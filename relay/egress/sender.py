"""One attempt: POST, judge the answer, never raise for what a subscriber can do.

The invariant: an attempt ends within its time, reads at most a few KiB, and comes to exactly one `Reply`. An
answer counts from its complete headers; what follows them can neither undo a success nor hold the connection.
"""

import asyncio
import functools
import re
import ssl
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Self

from aiohttp import hdrs
from aiohttp.abc import AbstractResolver

from relay.clock import Clock, SystemClock
from relay.core.addresses import Network, UrlRefusedError, check_url, parse_proxy
from relay.core.outcome import Outcome, Reply
from relay.egress.exchange import Target, drain, exchange, make_target
from relay.egress.failures import FAILURES, classify_failure
from relay.egress.resolver import GuardedResolver
from relay.egress.stopwatch import Stopwatch
from relay.egress.transport import GuardedConnector, guarded
from relay.egress.tunnel import ProxyConnector

DRAIN_S: Final = 1.0
EXCERPT_BYTES: Final = 1024
_REMEMBERED_URLS: Final = 4096
_RETRY_LATER: Final = frozenset({429, 503})
_PROXY_AUTHENTICATION_REQUIRED: Final = 407
_SECONDS: Final = re.compile(r"[0-9]+(\.[0-9]+)?(e[0-9]+)?", re.IGNORECASE | re.ASCII)


class Sender:
    """The guarded HTTP client; an async context manager, or `start` and `close`.

    `connections` must lie above the number of attempts at once: waiting for a connection takes from their time.
    `tls` replaces the default trust store (a private CA), never verification itself. With `proxy` (an http:// URL,
    which may hold credentials) that proxy alone is dialled; `relay.egress.tunnel` says what the guard promises then.
    `resolver` resolves subscribers' names or, with a proxy, the proxy's.
    """

    def __init__(
        self,
        *,
        allow: Sequence[Network],
        allow_http: bool,
        user_agent: str,
        connections: int = 2000,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        proxy: str | None = None,
    ) -> None:
        self._allow = tuple(allow)
        self._allow_http = allow_http
        self._user_agent = user_agent
        self._connections = connections
        self._resolver = resolver
        self._tls = tls
        self._clock = clock or SystemClock()
        self._proxy = parse_proxy(proxy) if proxy else None
        self._connector: GuardedConnector | None = None
        self._target = functools.lru_cache(_REMEMBERED_URLS)(self._make_target)

    async def start(self) -> None:
        """Open the pool; needs a running loop."""
        self._target.cache_clear()  # targets belong to the loop that they were made in
        if self._proxy:
            self._connector = ProxyConnector(
                self._proxy, self._resolver, agent=self._user_agent, connections=self._connections, tls=self._tls
            )
        else:
            resolver = self._resolver or GuardedResolver(self._allow)
            self._connector = guarded(resolver, self._allow, connections=self._connections, tls=self._tls)

    async def close(self) -> None:
        """Close every connection; attempts in flight end as failures."""
        if self._connector is not None:
            await self._connector.close()
            self._connector = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float) -> Reply:
        """Send `body` once and say what came of it within `timeout_s`; header names go out as they are given."""
        if self._connector is None:
            raise RuntimeError("the sender was not started")
        time = asyncio.get_running_loop().time
        started = time()
        deadline = started + timeout_s
        watch = Stopwatch(time)
        try:
            target = self._target(url)
            async with asyncio.timeout_at(deadline):
                answer = await exchange(self._connector, target, headers, body, watch)
        except (UrlRefusedError, *FAILURES) as error:
            watch.stop()
            outcome, detail = classify_failure(error)
            if watch.at_proxy and outcome is Outcome.TIMEOUT:
                outcome, detail = Outcome.PROXY, "cannot connect to the proxy in time"
            return _reply(outcome, None, round((time() - started) * 1000), watch, detail)
        duration_ms = round((time() - started) * 1000)
        excerpt = await drain(answer, min(deadline, time() + DRAIN_S))
        message = answer.message
        return self._judge(target, message.code, message.headers.get(hdrs.RETRY_AFTER), duration_ms, watch, excerpt)

    def _judge(
        self, target: Target, status: int, retry_after: str | None, duration_ms: int, watch: Stopwatch, excerpt: bytes
    ) -> Reply:
        if 200 <= status < 300:  # noqa: PLR2004 - the classes of RFC 9110
            return _reply(Outcome.DELIVERED, status, duration_ms, watch)
        detail = f"HTTP {status}"
        if target.by_proxy and status == _PROXY_AUTHENTICATION_REQUIRED:
            return _reply(Outcome.PROXY, None, duration_ms, watch, f"the proxy answered {detail}")
        outcome = Outcome.REDIRECT if 300 <= status < 400 else Outcome.STATUS  # noqa: PLR2004 - RFC 9110
        retry_after_s = None
        if retry_after is not None and status in _RETRY_LATER:
            retry_after_s = parse_retry_after(retry_after, self._clock.now())
        return _reply(outcome, status, duration_ms, watch, detail, retry_after_s, excerpt[:EXCERPT_BYTES])

    def _make_target(self, url: str) -> Target:
        checked = check_url(url, allow_http=self._allow_http, allow=self._allow)
        if self._proxy is None:
            return make_target(checked, self._user_agent)
        return make_target(checked, self._user_agent, proxied=True, authorization=self._proxy.authorization)


def _reply(
    outcome: Outcome,
    status: int | None,
    duration_ms: int,
    watch: Stopwatch,
    detail: str = "",
    retry_after_s: float | None = None,
    body: bytes = b"",
) -> Reply:
    return Reply(
        outcome,
        status,
        retry_after_s,
        duration_ms,
        detail,
        body,
        watch.dns_ms,
        watch.connect_ms,
        watch.first_byte_ms,
    )


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
