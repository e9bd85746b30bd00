"""How a source is doing, and the relay's own events about it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from relay.core.diff import Changes, Transition
from relay.core.events import build, rfc3339
from relay.core.memory import Digest
from relay.core.model import Change, Details, Observation
from relay.core.quarantine import Sample

DEGRADED_AFTER = 3
"""Failed polls in a row that make a source degraded."""
MAX_HELD_SHOWN = 20
OWN = "relay"
"""The source name of what the relay says about itself."""

_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Any]).decode


class Status(msgspec.Struct, kw_only=True):
    """A source's status as it is stored and shown; times are RFC 3339."""

    status: str = "pending"
    """`pending` before the first poll, `ok`, `failing` (some polls), `degraded` (several in a row)."""
    last_poll_at: str | None = None
    last_good_poll_at: str | None = None
    failures: int = 0
    error: dict[str, str] | None = None
    rows: int = 0
    entities: int = 0
    open_entities: int = 0
    older_rows: int = 0
    invalid_rows: dict[str, int] = {}
    invalid_samples: list[Sample] = []
    """Some of the rows that could not be read."""
    held_back: int = 0
    """Changes that the last poll brought and that wait for the next one to agree, because they are implausibly many."""
    held_back_entities: list[str] = []
    """Some of the entities that they are about."""
    next_poll_at: str | None = None
    """When the next poll is to begin."""
    wait_until: str | None = None
    """The upstream has asked not to be asked before."""


class Health:
    """Counts failures, and says when that is worth telling."""

    def __init__(self, status: Status | None = None, stored: bytes = b"") -> None:
        self._status = status or Status()
        self.stored = stored
        """The packed (sequence, status, start of the latest gap) of the source as an entity of the relay itself."""
        self._failed_since: str | None = None

    @classmethod
    def restore(cls, status: str | None, stored: bytes | None) -> "Health":
        """What an earlier holder of the source knew."""
        return cls(msgspec.json.decode(status, type=Status) if status else None, stored or b"")

    @property
    def failures(self) -> int:
        """Failed polls since the last good one."""
        return self._status.failures

    @property
    def error(self) -> Mapping[str, str]:
        """Reason and detail of the last failure."""
        return self._status.error or {}

    @property
    def failing_since(self) -> str | None:
        """Beginning of the present trouble, or of the one that the last poll has ended."""
        return self.error.get("since", self._failed_since)

    def told(self) -> tuple[int, str]:
        """Sequence and status of the last event about this source."""
        return self._told()[:2]

    def gap_told(self) -> str | None:
        """Beginning of the latest gap that was told of: whoever meets it again keeps quiet."""
        return self._told()[2]

    def _told(self) -> tuple[int, str, str | None]:
        """The stored triple; the gap is missing where an earlier version has written it."""
        sequence, status, gap = [*_unpack(self.stored), None][:3] if self.stored else (0, "ok", None)
        return sequence, status, gap

    def succeed(self, started: datetime, total: Digest, entities: int, open_entities: int) -> bool:
        """Count a complete poll; True if the source has just recovered."""
        self._failed_since = self.failing_since
        self._status = Status(
            status="ok",
            last_poll_at=rfc3339(started),
            last_good_poll_at=rfc3339(started),
            rows=total.rows,
            entities=entities,
            open_entities=open_entities,
            older_rows=total.older,
            invalid_rows=dict(total.invalid),
            invalid_samples=total.samples.kept,
        )
        return self.told()[1] == "degraded"

    def hold(self, started: datetime, entities: Sequence[str]) -> None:
        """Note a poll whose changes, of these entities, are held back: it is neither a good one nor a failure."""
        self._status.last_poll_at = rfc3339(started)
        self._status.held_back = len(entities)
        self._status.held_back_entities = list(entities[:MAX_HELD_SHOWN])

    def expect(self, turn_at: datetime, pause_s: float, wait_until: datetime | None = None) -> None:
        """Note when the next poll begins: so long after this one did, but not before the upstream wants it to."""
        next_at = turn_at + timedelta(seconds=pause_s)
        self._status.next_poll_at = rfc3339(max(next_at, wait_until or next_at))
        self._status.wait_until = rfc3339(wait_until)

    @property
    def wait_until(self) -> datetime | None:
        """What the upstream has asked for with its latest answer."""
        return datetime.fromisoformat(self._status.wait_until) if self._status.wait_until else None

    def fail(self, reason: str, detail: str, now: datetime) -> tuple[bool, bool]:
        """Count a failed poll: whether the source has just become degraded, and whether the failure is news."""
        status = self._status
        news = status.error is None or status.error["reason"] != reason
        since = rfc3339(now) if status.error is None else status.error["since"]
        status.failures += 1
        status.held_back, status.held_back_entities = 0, []
        status.last_poll_at = rfc3339(now)
        status.error = {"reason": reason, "detail": detail, "since": since or ""}
        bad = status.failures >= DEGRADED_AFTER
        status.status = "degraded" if bad else "failing"
        return bad and self.told()[1] != "degraded", news

    def status(self) -> str:
        """The status as JSON."""
        return _encode(self._status).decode()


def health_change(
    source: str, event_type: str, health: Health, now: datetime, gap: tuple[datetime, datetime] | None
) -> Change:
    """The relay's own event about a source, as a change of the entity `source:NAME`.

    What makes its id is the outage: when it began, or where the gap begins. A gap's end moves with every attempt to
    close it, so it is told but is no part of the identity.
    """
    sequence, before = health.told()
    after = {"relay.source.degraded": "degraded", "relay.source.recovered": "ok"}.get(event_type, before)
    record: dict[str, Any] = {"source": source}
    changes: Changes = {}
    gap_from, since = health.gap_told(), health.failing_since
    if after == "degraded":
        record |= health.error
        changes = {"failing_since": {"from": None, "to": since}}
    elif before == "degraded":
        record["failing_since"] = since
        changes = {"failing_since": {"from": since, "to": None}}
    if gap is not None:
        gap_from = rfc3339(gap[0])
        record |= {"from": gap_from, "to": rfc3339(gap[1])}
        changes = {"gap": {"from": gap_from, "to": None}}
    transition = Transition("source", source, sequence + 1, event_type, before, after, changes, None, first_seen=False)
    details = Details(None, None, None, None, _encode(record), b"")
    event = build(transition, Observation(OWN, now), details, after=None)
    return Change(f"source:{source}", health.stored, _pack((sequence + 1, after, gap_from)), (event,))
