"""Lab on Demand: `LatestResults` for the recent past, `Results` for an outage that outlasted its seven days.

The invariant: every poll asks for a superset of what changed since the last complete one *started*. Which
changes bring a row back into the window is not defined (a re-score or a resumed lab may not), so from time
to time a poll sweeps the widest window.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import msgspec

from relay.clock import Clock
from relay.core.errors import FetchError
from relay.core.model import Family
from relay.core.windows import plan_lod
from relay.sources.base import Page
from relay.sources.http import Pacer, decode, fetch, require_header_text, status_fault

MAX_PER_S = 2
"""No throttling rule is published; one request in flight and two a second were never a complaint."""

_REFUSED = (
    "LOD refuses the api_key: check the setting, whether its API access has expired, and whether a proxy drops "
    "headers with underscores (nginx does unless underscores_in_headers is on)"
)
_REFUSALS = frozenset({"invalid integration key", "api access has expired"})
"""The vendor's documented texts for a bad key. LOD has no error codes, so its words are all there is to go by."""


class _Reply(msgspec.Struct, rename="pascal"):
    """The envelope; rows stay the bytes that came."""

    results: list[msgspec.Raw] | None = None
    status: Any = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Reply)


class LodSource:
    """One LOD organisation, polled with its API key.

    `overlap_s` widens every window beyond the time since the last poll; `sweep_s` is the time between two
    polls of the widest window (0: never).
    """

    kind: Final = "lod"

    def __init__(
        self,
        name: str,
        *,
        family: Family,
        session: aiohttp.ClientSession,
        clock: Clock,
        base_url: str,
        api_key: str,
        interval_s: float = 30,
        overlap_s: float = 900,
        sweep_s: float = 900,
        timeout_s: float = 60,
    ) -> None:
        self.name: Final = name
        self.family: Final = family
        self.interval_s: Final = interval_s
        self._session = session
        self._clock = clock
        self._base_url = base_url.rstrip("/")
        self._headers = {"api_key": require_header_text("api_key", api_key)}
        self._overlap_s = overlap_s
        self._sweep_s = sweep_s
        self._timeout_s = timeout_s
        self._swept_at: float | None = None
        self._in_flight = asyncio.Lock()
        self._pacer = Pacer(MAX_PER_S, 1.0)

    async def poll(self, watermark: datetime | None) -> AsyncIterator[Page]:
        """Fetch everything since `watermark`; the last page hands out the moment at which this poll started."""
        started_at = self._clock.now()
        plan = plan_lod(
            started_at,
            watermark,
            interval_s=self.interval_s,
            overlap_s=self._overlap_s,
            widest=self._sweep_due(),
        )
        gap = plan.gap
        for span in plan.slices:
            start_s, end_s = int(span.start.timestamp()), int(span.end.timestamp())
            rows = await self._rows(f"Results/?start={start_s}&end={end_s}")
            yield Page(rows, backfill=True, gap=gap)
            gap = None
        rows = await self._rows(f"LatestResults/?minutes={plan.minutes}")
        yield Page(rows, watermark=started_at, backfill=plan.backfill, gap=gap)

    def _sweep_due(self) -> bool:
        """Whether this poll sweeps.

        The time counts from the attempt: were a sweep that fails due at once again, an upstream that cannot
        answer seven days in time would keep the ordinary polls from ever succeeding.
        """
        now_s = self._clock.monotonic()
        if self._swept_at is None:
            self._swept_at = now_s
            return False
        if not 0 < self._sweep_s <= now_s - self._swept_at:
            return False
        self._swept_at = now_s
        return True

    async def _rows(self, command: str) -> list[bytes]:
        """Ask one command for its rows."""
        async with self._in_flight:
            await self._pacer.turn()
            answer = await fetch(
                self._session,
                "GET",
                f"{self._base_url}/{command}",
                headers=self._headers,
                timeout_s=self._timeout_s,
            )
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise FetchError("refused", _REFUSED)
        if answer.status != HTTPStatus.OK:
            raise status_fault(answer, self._clock.now())
        return await decode(answer.body, _read_rows)


def _read_rows(body: bytearray) -> list[bytes]:
    """Read the rows of a successful reply, or raise what it says instead.

    It is an error if `Error` is not null *or* `Status` is not 1: the vendor's own example has an error with
    status 1.
    """
    reply = _decoder.decode(body)
    if reply.error is not None or reply.status != 1:
        raise _upstream_fault(reply.error)
    if reply.results is None:
        raise FetchError("upstream_error", "LOD reports success without Results; will be asked again")
    return [bytes(row) for row in reply.results]


def _upstream_fault(error: object) -> FetchError:
    """Say what an error reply means; text that is not the vendor's documented own is never repeated."""
    text = error.strip(" .").lower() if isinstance(error, str) else ""
    if text in _REFUSALS:
        return FetchError("refused", _REFUSED)
    return FetchError(
        "upstream_error",
        "LOD answers with an error of its own (Error is set or Status is not 1); will be asked again. If it "
        "lasts, check base_url, and whether a proxy drops the api_key header for its underscore",
    )
