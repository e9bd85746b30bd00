"""`GET /v1/entities/{source}/{id}/explain`: why there was no (further) event, as far as is known.

An event is a difference between two sights, so there is none where nothing was seen or where nothing differs; here each
of the two is told with what it rests on. An id that nobody knows is explained too: that it was never seen is an answer.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.admin.attempt_schema import moment
from relay.admin.entities import named
from relay.admin.entity_schema import FAMILIES, EntityExplained, NoEventReason, read_state, shown_state
from relay.admin.feed import Feed
from relay.admin.pages import json_response
from relay.admin.problems import no_source
from relay.admin.routes import Route
from relay.admin.sources import SourceInfo, freshness
from relay.clock import Clock
from relay.core.erasure import shown
from relay.core.health import Status
from relay.core.log import START, Entry
from relay.core.memory import DAY_S
from relay.core.model import Family, Snapshot
from relay.store import Store

_UNSEEN: Final = timedelta(seconds=DAY_S + 3600)
"""An unchanged sight is noted once a day: without one for longer, the upstream has not shown the entity."""

_decode = msgspec.json.Decoder().decode
_decode_status = msgspec.json.Decoder(Status).decode


class ExplainEntity:
    """The route /v1/entities/{source}/{id}/explain."""

    def __init__(self, store: Store, feed: Feed, sources: Sequence[SourceInfo], clock: Clock) -> None:
        self._store = store
        self._feed = feed
        self._sources: Mapping[str, SourceInfo] = {one.name: one for one in sources}
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        summary = "Explain why an entity has had no (further) event"
        path = "/v1/entities/{source}/{id}/explain"
        return (Route("GET", path, self._explain, summary, {200: EntityExplained}),)

    async def _explain(self, request: web.Request) -> web.Response:
        name, entity_id = named(request)
        source = self._sources.get(name)
        if source is None:
            raise no_source(self._sources)
        family = FAMILIES[source.kind]
        snapshot = read_state(await self._store.snapshots.load_one(name, entity_id), family)
        (text,) = await self._store.snapshots.meta(f"status:{name}")
        status = Status() if text is None else _decode_status(text)
        last = await self._last_event(name, entity_id)
        return json_response(
            {
                "source": name,
                "id": entity_id,
                "state": None if snapshot is None else shown_state(snapshot, family),
                "next_sequence": 1 if snapshot is None else snapshot.sequence + 1,
                "last_event": None if last is None else _shown(last),
                "last_poll_at": status.last_poll_at,
                "last_good_poll_at": status.last_good_poll_at,
                "next_poll_at": status.next_poll_at,
                "no_event": [
                    {"reason": reason, "detail": detail}
                    for reason, detail in (
                        *_of_entity(snapshot, family, status),
                        *_kept_out(entity_id, status),
                        *_of_source(source, status, self._clock.now()),
                    )
                ],
            }
        )

    async def _last_event(self, source: str, entity_id: str) -> Entry | None:
        end = (await self._feed.shown()).end
        latest = await self._store.log.of_entity(source, entity_id, START, end, 1, newest_first=True)
        return latest[0] if latest else None


_Reasons = list[tuple[NoEventReason, str]]


def _of_entity(snapshot: Snapshot | None, family: Family, status: Status) -> _Reasons:
    """What the stored state explains."""
    if snapshot is None:
        if status.last_good_poll_at is None:
            return [("not_polled_yet", "its source has had no complete poll yet: nothing is known of any entity")]
        detail = (
            "no row of it was accepted in any poll, or its state was kept no longer (RELAY_RETENTION__ENTITIES_S); "
            "the next row of it makes a first sight"
        )
        return [("never_seen", detail)]
    found: _Reasons = []
    if snapshot.sequence == 0:
        found.append(("baseline", "it was there at the first poll, which is silent, and has not changed since"))
    else:
        fields = ", ".join(family.fields)
        found.append(("unchanged", f"since its latest event no row of it has differed in a tracked field ({fields})"))
    seen_at = datetime.fromtimestamp(snapshot.seen_at_s, UTC)
    if status.last_good_poll_at and datetime.fromisoformat(status.last_good_poll_at) - seen_at > _UNSEEN:
        detail = "polls succeed, but none has shown it for more than a day: it lies outside of their window, or is gone"
        found.append(("not_shown_lately", detail))
    return found


def _kept_out(entity_id: str, status: Status) -> _Reasons:
    """Rows that were seen and not used."""
    found: _Reasons = [
        ("quarantined", f"a row of it was kept out: {one.reason} (found: {one.shape})")
        for one in status.invalid_samples
        if one.entity_id == entity_id
    ]
    others = sum(status.invalid_rows.values())
    if others and not found and others > len(status.invalid_samples):
        found.append(("quarantined", f"{others} rows of its source were kept out; only some are on record, none of it"))
    if status.held_back:
        whose = "one of them is its" if entity_id in status.held_back_entities else "one may be its"
        detail = f"{status.held_back} changes of its source wait for a second poll to agree; {whose}"
        found.append(("held_back", detail))
    return found


def _of_source(source: SourceInfo, status: Status, now: datetime) -> _Reasons:
    """Whether its source could be looked at."""
    if status.error is not None:
        error = status.error
        return [("source_failing", f"polls fail since {error['since']}: {error['reason']}, {error['detail']}")]
    if status.last_good_poll_at is not None and freshness(status, source.interval_s, now) == "stale":
        return [("source_overdue", f"the last good poll began at {status.last_good_poll_at}: nobody has looked since")]
    return []


def _shown(entry: Entry) -> dict[str, Any]:
    return {
        "event_id": entry.event_id,
        "type": entry.event_type,
        "sequence": _decode(shown(entry))["data"].get("sequence"),
        "logged_at": moment(entry.place.ms),
    }
