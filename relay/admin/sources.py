"""Sources: how fresh what the relay knows is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from aiohttp import web
from pydantic import ConfigDict

from relay.admin.examples import POLL, SOURCE
from relay.admin.fields import Described, Moment, example
from relay.admin.pages import PageQuery, json_response, page_of, page_response
from relay.admin.problems import no_source
from relay.admin.requests import read_query
from relay.admin.routes import Route
from relay.admin.security import audit
from relay.clock import Clock
from relay.core.events import rfc3339
from relay.core.health import Status
from relay.store import Store
from relay.store.leases import source_resource

GRACE_S: Final = 30.0
"""What a poll may take, and clocks may differ."""
_UPSTREAM_WAITS: Final = "the upstream has asked to be left alone until then (Retry-After)"
_NOBODY: Final = "no replica polls this source just now; the first one that does begins at once"

_decode_status = msgspec.json.Decoder(Status).decode


@dataclass(frozen=True)
class SourceInfo:
    """A configured source."""

    name: str
    kind: str
    interval_s: float


class SourceError(Described):
    """Why the last poll has failed."""

    reason: str
    """A short, stable word: `timeout`, `http_status`, …"""
    detail: str
    since: Moment
    """When the trouble began."""


class InvalidRow(Described):
    """A row that was kept out; nothing of what it says is kept but the id of the lab instance or session."""

    reason: str
    field: str | None
    """The upstream's name of the field; null: the row as a whole."""
    shape: str
    """JSON type and length in bytes of what stood there, or `missing`."""
    entity_id: str | None
    """Null: it cannot be read either."""
    at: Moment


class SourceOut(Described):
    """A source, what its last poll came to, and how far it was read."""

    model_config = ConfigDict(json_schema_extra=example(SOURCE))

    name: str
    kind: Literal["lod", "learnosity"]
    interval_s: float
    status: Literal["pending", "ok", "failing", "degraded"]
    """`pending` before the first poll, `degraded` after several failed ones in a row."""
    watermark: Moment | None
    """How far it was read completely."""
    lag_s: float | None
    """Age of the watermark in seconds."""
    last_poll_at: Moment | None
    last_good_poll_at: Moment | None
    failures: int
    """Failed polls since the last good one."""
    error: SourceError | None
    rows: int
    """Rows of the last good poll, …"""
    entities: int
    """… and the entities known after it."""
    open_entities: int
    older_rows: int
    """Rows that were ignored because a newer one is known."""
    invalid_rows: dict[str, int]
    """Rows of the last good poll that could not be read and were kept out, by reason."""
    invalid_samples: list[InvalidRow]
    """Some of them."""
    held_back: int
    """Changes that wait for a second poll to agree, because so many at once are implausible."""
    held_back_entities: list[str]
    """Ids of some of the entities that they are about."""
    next_poll_at: Moment | None
    """When the next poll is to begin; in the past while it is under way, or if nobody polls."""
    wait_until: Moment | None
    """The upstream has asked not to be asked before (`Retry-After`)."""
    overdue_s: float
    """For how long the next poll has been due; much more than a poll takes: nobody polls."""
    freshness: Literal["never", "fresh", "stale"]
    """`stale`: the last good poll began more than two intervals and 30 s ago, so that nothing happened may only mean
    that nobody could look."""


class PollOut(Described):
    """A poll was asked for."""

    model_config = ConfigDict(json_schema_extra=example(POLL))

    source: str
    requested_at: Moment
    expected_at: Moment | None
    """When it will be made; null: no replica polls the source just now, the first one that does begins at once."""
    note: str | None
    """Why not at once."""


class Sources:
    """The routes below /v1/sources."""

    def __init__(self, store: Store, sources: Sequence[SourceInfo], clock: Clock) -> None:
        self._store = store
        self._sources: Mapping[str, SourceInfo] = {one.name: one for one in sources}
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        path, found = "/v1/sources", {200: SourceOut}
        return (
            Route("GET", path, self._list, "List the sources with their freshness", found, query=PageQuery, page=True),
            Route("GET", f"{path}/{{name}}", self._get, "Show a source", found),
            Route("POST", f"{path}/{{name}}/poll", self._poll, "Poll a source now", {202: PollOut}),
        )

    async def _list(self, request: web.Request) -> web.Response:
        query = read_query(request, PageQuery)
        page, following = page_of(self._sources.values(), query, lambda one: one.name)
        return page_response(await self._shown(page), following)

    async def _get(self, request: web.Request) -> web.Response:
        return json_response((await self._shown([self._find(request)]))[0])

    async def _poll(self, request: web.Request) -> web.Response:
        source = self._find(request)
        await self._store.log.announce("poll", source.name)
        audit(request, "source.poll", source.name)
        now = self._clock.now()
        (status,) = await self._store.snapshots.meta(f"status:{source.name}")
        expected, note = now, None
        if status is not None and (wait_until := _decode_status(status).wait_until) is not None:
            expected = max(now, datetime.fromisoformat(wait_until))
            note = _UPSTREAM_WAITS if expected > now else None
        served = await self._store.leases.served([source_resource(source.name)], await self._store.deliveries.now_ms())
        if not served:
            note = _NOBODY
        return json_response(
            {
                "source": source.name,
                "requested_at": rfc3339(now),
                "expected_at": rfc3339(expected) if served else None,
                "note": note,
            },
            202,
        )

    def _find(self, request: web.Request) -> SourceInfo:
        source = self._sources.get(request.match_info["name"])
        if source is None:
            raise no_source(self._sources)
        return source

    async def _shown(self, sources: Sequence[SourceInfo]) -> list[dict[str, Any]]:
        if not sources:
            return []
        fields = [name for one in sources for name in (f"wm:{one.name}", f"status:{one.name}")]
        values = await self._store.snapshots.meta(*fields)
        return [
            self._show(one, *values[at : at + 2]) for one, at in zip(sources, range(0, len(values), 2), strict=True)
        ]

    def _show(self, source: SourceInfo, watermark: str | None, status: str | None) -> dict[str, Any]:
        read_to = None if watermark is None else datetime.fromisoformat(watermark)
        now = self._clock.now()
        known = Status() if status is None else _decode_status(status)
        return {
            "name": source.name,
            "kind": source.kind,
            "interval_s": source.interval_s,
            "watermark": rfc3339(read_to),
            "lag_s": _age_s(watermark, now),
            **msgspec.structs.asdict(known),
            "invalid_samples": [
                {**msgspec.structs.asdict(one), "at": rfc3339(one.at)} for one in known.invalid_samples
            ],
            "overdue_s": _age_s(known.next_poll_at, now) or 0.0,
            "freshness": freshness(known, source.interval_s, now),
        }


def freshness(status: Status, interval_s: float, now: datetime) -> Literal["never", "fresh", "stale"]:
    """How far nothing happened can be told from we could not look."""
    age_s = _age_s(status.last_good_poll_at, now)
    if age_s is None:
        return "never"
    return "fresh" if age_s <= 2 * interval_s + GRACE_S else "stale"


def _age_s(at: str | None, now: datetime) -> float | None:
    return None if at is None else round(max((now - datetime.fromisoformat(at)).total_seconds(), 0.0), 3)
