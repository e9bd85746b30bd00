"""Learnosity `sessions/statuses`: signed by the official SDK, sent by aiohttp, paged to the empty page.

The invariant: a poll asks for one fixed window on the server's clock, oldest update first, and hands out
its end as the watermark only after the last page. A session that is updated during the sweep moves behind
the window's end and is the next poll's. Rows carry no updated time, so the watermark comes from the window
and `meta.timestamp` alone.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, cast

import aiohttp
import structlog
from learnosity_sdk._version import __version__ as sdk_version
from learnosity_sdk.request import Init

from relay.clock import Clock
from relay.core.errors import FetchError
from relay.core.model import Family
from relay.core.windows import clock_offset_s, learnosity_watermark, plan_learnosity
from relay.sources.base import Page
from relay.sources.http import decode, fetch, require_header_text, shared_pacer
from relay.sources.learnosity_reply import Reply, http_fault, read_reply

PAGE_LIMIT = 50
"""The server clamps a larger limit silently."""
MAX_PAGES = 100_000
"""Five million rows: no window is that large, so the paging has gone astray."""
RATE_LIMIT = (900, 5.0)
"""The vendor allows 1000 requests in 5 s per consumer; the rest is left for jitter on the way."""
BODY_CAP = 32 * 1024 * 1024
_PATH = "sessions/statuses"

_log = structlog.get_logger()

# The SDK's telemetry writes this machine's kernel version into every signed request and changes the dict
# that it was given. Its only switch is process-wide, so it is thrown once, where the SDK enters the
# process.
Init.disable_telemetry()


class LearnositySource:
    """One Learnosity consumer's sessions.

    `settle_s` keeps a window's end behind the server's clock until updates are visible;
    `first_poll_lookback_s` is how far the first poll reaches back; `session_metadata` names the attributes
    to include.
    """

    kind: Final = "learnosity"

    def __init__(
        self,
        name: str,
        *,
        family: Family,
        session: aiohttp.ClientSession,
        clock: Clock,
        base_url: str,
        version: str,
        consumer_key: str,
        consumer_secret: str,
        domain: str,
        interval_s: float = 10,
        overlap_s: float = 120,
        settle_s: float = 2,
        session_metadata: Sequence[str] = (),
        first_poll_lookback_s: float = 7 * 86400,
        timeout_s: float = 30,
    ) -> None:
        self.name: Final = name
        self.family: Final = family
        self.interval_s: Final = interval_s
        self._session = session
        self._clock = clock
        self._url = f"{base_url.rstrip('/')}/{version}/{_PATH}"
        self._identity = {
            "consumer_key": require_header_text("consumer_key", consumer_key),
            "domain": require_header_text("domain", domain),
        }
        self._secret = require_header_text("consumer_secret", consumer_secret)
        self._overlap_s = overlap_s
        self._settle_s = settle_s
        self._include = {"sessions.session_metadata": list(session_metadata)} if session_metadata else None
        self._lookback_s = first_poll_lookback_s
        self._timeout_s = timeout_s
        self._offset_s = 0.0
        self._versions: Mapping[str, str] = {}
        self._in_flight = asyncio.Lock()
        self._pacer = shared_pacer(base_url.rstrip("/"), consumer_key, *RATE_LIMIT)

    async def poll(self, watermark: datetime | None) -> AsyncIterator[Page]:
        """Fetch everything updated since `watermark`; the last page hands out the window's end."""
        window = plan_learnosity(
            self._clock.now(),
            watermark,
            interval_s=self.interval_s,
            overlap_s=self._overlap_s,
            settle_s=self._settle_s,
            lookback_s=self._lookback_s,
            offset_s=self._offset_s,
        )
        request: dict[str, Any] = {"sort": "asc", "mintime": window.mintime, "maxtime": window.maxtime}
        if self._include:
            request["include"] = self._include
        reached: datetime | None = None
        async for reply in self._pages(request):
            if reached is None:
                reached = learnosity_watermark(window, reply.stamp_s, self._settle_s, watermark)
            yield Page(reply.rows, watermark=reached if reply.ends else None, backfill=window.backfill)

    async def _pages(self, request: Mapping[str, Any]) -> AsyncIterator[Reply]:
        """Page through one window; the last page is the one that `ends` it.

        The end is an empty page, which still has a token (measured by integrators); a page without one ends
        it too. A token that comes back together with rows would lead round in a circle.
        """
        limit = PAGE_LIMIT
        token: str | None = None
        seen: set[str] = set()
        for _ in range(MAX_PAGES):
            paging = {"limit": limit} if token is None else {"limit": limit, "next": token}
            try:
                reply = await self._ask({**request, **paging})
            except FetchError as error:
                if error.reason != "too_large" or limit == 1:
                    raise
                limit //= 2
                continue
            if reply.next in seen and not reply.ends:
                break
            yield reply
            if reply.ends or reply.next is None:
                return
            token = reply.next
            seen.add(token)
        raise FetchError("upstream_error", "Learnosity's paging leads round in a circle; will be asked again")

    async def _ask(self, request: Mapping[str, Any]) -> Reply:
        """Sign and send one page's request; every page gets a fresh timestamp, because a stale one is refused."""
        async with self._in_flight:
            await self._pacer.turn()
            answer = await fetch(
                self._session,
                "POST",
                self._url,
                headers={
                    "X-Learnosity-Consumer": self._identity["consumer_key"],
                    "X-Learnosity-Action": f"get_/{_PATH}",
                    "X-Learnosity-SDK": f"Python:{sdk_version.lstrip('v')}",
                },
                data=self._signed(request),
                timeout_s=self._timeout_s,
                cap=BODY_CAP,
            )
        now = self._clock.now()
        if answer.status != HTTPStatus.OK:
            raise http_fault(answer, now)
        reply = await decode(answer.body, read_reply)
        self._learn(reply, now)
        return reply

    def _learn(self, reply: Reply, now: datetime) -> None:
        """Keep how far the server's clock is from ours, and log which version answers when that changes."""
        offset_s = clock_offset_s(reply.stamp_s, now)
        if offset_s is None:
            raise FetchError("upstream_error", "Learnosity's clock is hours away from ours: check this machine's clock")
        self._offset_s = offset_s
        if reply.versions != self._versions:
            self._versions = reply.versions
            _log.info("source.version", source=self.name, versions=dict(reply.versions))

    def _signed(self, request: Mapping[str, Any]) -> dict[str, str]:
        """Form fields `security`, `request`, `action` as the vendor's own signer makes them."""
        security = {**self._identity, "timestamp": self._clock.now().strftime("%Y%m%d-%H%M")}
        signed = Init("data", security, self._secret, dict(request), "get").generate()
        return cast("dict[str, str]", signed)  # text only for services other than `data`
