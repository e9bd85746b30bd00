"""Every event type: what it means, what its payload looks like, and an example.

Invariant: an example is not written by hand. It is what the rules make of two sample rows, so it cannot drift from
what is sent.
"""

import difflib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from relay.core.diff import Transition, transitions
from relay.core.events import build
from relay.core.health import OWN, Health, health_change
from relay.core.lab import LabFamily
from relay.core.matching import type_matches
from relay.core.model import Details, Event, Family, Observation, Snapshot
from relay.core.payload_schema import payload_schema
from relay.core.ping import TEST_TYPE, ping_event
from relay.core.session import SessionFamily

_encode = msgspec.json.Encoder().encode

_NOW = datetime(2026, 11, 21, 17, 0, 0, 123_000, tzinfo=UTC)
_BEFORE = _NOW - timedelta(seconds=30)
_START_S, _END_S = 1_795_275_000, 1_795_280_390
_SUBSCRIBER = "sub_0123456789abcdefghijkl"

_Row = Mapping[str, Any]
_Sample = tuple[_Row | None, _Row]
"""What differs from the family's sample row before (None: never seen) and after."""


@dataclass(frozen=True, slots=True)
class EventType:
    """One type of event."""

    name: str
    description: str
    schema: Mapping[str, Any]
    """JSON Schema (2020-12) of the payload in the `standard` format."""
    example: bytes
    """A payload, exactly as it would be sent."""


_LAB: _Row = {
    "LabInstanceId": 349744,
    "LabProfileId": 5522,
    "Start": _START_S,
    "End": None,
    "LastActivity": _END_S,
    "UserId": "555",
    "ClassId": None,
    "CompletionStatus": 3,
    "TotalRunTimeSeconds": 2548,
    "TaskCompletePercent": 33,
    "IsExam": True,
    "ExamPassed": None,
    "ExamScore": None,
    "ExamMaxPossibleScore": 100,
    "ExamPassingScore": 70,
}
_COMPLETE: _Row = {"CompletionStatus": 4, "End": _END_S}
_SCORED: _Row = {**_COMPLETE, "ExamScore": 65, "ExamPassed": False}

_LAB_SAMPLES: Mapping[str, tuple[str, _Sample]] = {
    "lab.started": ("A lab instance was seen for the first time, and it is open.", (None, {})),
    "lab.engaged": ("A lab that had not been started is in progress now.", ({"CompletionStatus": 2}, {})),
    "lab.submitted": ("A lab was submitted for grading.", ({}, {"CompletionStatus": 50})),
    "lab.grading_started": ("Grading has begun.", ({"CompletionStatus": 50}, {"CompletionStatus": 60})),
    "lab.completed": ("A lab is complete.", ({}, _COMPLETE)),
    "lab.ended_incomplete": ("A lab has ended without being completed.", ({}, {"End": _END_S})),
    "lab.no_show": (
        "A lab has ended without ever being started.",
        ({"CompletionStatus": 2}, {"CompletionStatus": 2, "End": _END_S}),
    ),
    "lab.cancelled": ("A lab was cancelled.", ({}, {"CompletionStatus": 1, "End": _END_S})),
    "lab.failed.storage_provisioning": (
        "The storage of a lab could not be provided.",
        ({"CompletionStatus": 2}, {"CompletionStatus": 10}),
    ),
    "lab.failed.creation": ("A lab could not be created.", ({"CompletionStatus": 2}, {"CompletionStatus": 20})),
    "lab.failed.resume": ("A saved lab could not be resumed.", ({}, {"CompletionStatus": 30})),
    "lab.failed.save": ("A lab could not be saved.", ({}, {"CompletionStatus": 40})),
    "lab.reopened": ("A lab goes on after it had ended or failed.", ({"CompletionStatus": 30}, {})),
    "lab.scored": ("A lab has got its first score.", (_COMPLETE, _SCORED)),
    "lab.rescored": ("The score of a lab was changed.", (_SCORED, {**_SCORED, "ExamScore": 68})),
    "lab.score_cleared": ("The score of a lab was taken back.", (_SCORED, _COMPLETE)),
    "lab.outcome_changed": ("Passed has become failed, or failed passed.", (_SCORED, {**_SCORED, "ExamPassed": True})),
    "lab.reassigned": ("A lab belongs to another user or class now.", ({}, {"UserId": "556"})),
    "lab.status_changed": (
        "A lab's status has changed in a way that has no name of its own, known or not.",
        ({}, {"CompletionStatus": 2}),
    ),
    "lab.progressed": (
        "The percentage of completed tasks has risen (off unless the source turns `progress` on).",
        ({}, {"TaskCompletePercent": 50}),
    ),
}

_SESSION: _Row = {
    "user_id": "d7dd0d99-a2da-48f6-8e51-f938cf65204e",
    "activity_id": "templated_assessment",
    "num_attempted": 4,
    "num_questions": 10,
    "session_id": "0a643076-1161-4aef-bf59-a5126a72a403",
    "session_duration": 7,
    "status": "Incomplete",
    "dt_started": "2026-11-21T15:30:00Z",
    "dt_completed": None,
    "activity_template_id": "demo_assessment_template",
}
_PENDING: _Row = {"status": "Pending Scoring", "dt_completed": "2026-11-21T16:59:50Z"}
_COMPLETED: _Row = {"status": "Completed", "dt_completed": "2026-11-21T16:59:50Z"}

_SESSION_SAMPLES: Mapping[str, tuple[str, _Sample]] = {
    "session.started": ("A session was seen for the first time, and it is open.", (None, {})),
    "session.submitted": ("A session was submitted and waits for its score.", ({}, _PENDING)),
    "session.completed": ("A session is complete.", ({}, _COMPLETED)),
    "session.discarded": ("A session was discarded.", ({}, {"status": "Discarded"})),
    "session.reopened": ("A session that was complete or submitted goes on.", (_COMPLETED, {})),
    "session.reinstated": ("A discarded session is valid again.", ({"status": "Discarded"}, {})),
    "session.resubmitted": (
        "A completed session was completed again, or has gone back to scoring.",
        (_COMPLETED, _PENDING),
    ),
    "session.status_changed": (
        "A session's status has changed in a way that has no name of its own, known or not.",
        ({}, {"status": "Under Review"}),
    ),
    "session.progressed": (
        "More questions were attempted (off unless the source turns `progress` on).",
        ({}, {"num_attempted": 5}),
    ),
}

_SOURCES = {
    "relay.source.degraded": "Several polls of a source have failed in a row: what happens there is not seen.",
    "relay.source.recovered": "A degraded source can be read again; nothing that it still shows was lost.",
    "relay.source.gap": "Intermediate states within a span may have been missed: an outage outlived what is shown.",
}
_SUBSCRIBERS = {
    "relay.subscriber.failing": ("Deliveries to a subscriber keep failing.", "ok", "failing"),
    "relay.subscriber.disabled": ("A subscriber was disabled; its deliveries wait.", "failing", "disabled"),
    "relay.subscriber.recovered": ("Deliveries to a subscriber succeed again.", "failing", "ok"),
}


@functools.cache
def catalogue() -> Mapping[str, EventType]:
    """Every event type by name, in the order in which they are best read."""
    types = [
        *_of_family(LabFamily(progress=True), _LAB, _LAB_SAMPLES, "lod"),
        *_of_family(SessionFamily(progress=True), _SESSION, _SESSION_SAMPLES, "learnosity"),
        _type("Sent when a test is asked for, to one subscriber only.", ping_event(_SUBSCRIBER, 1, _NOW), "subscriber"),
        *(_type(description, _source_event(name), "source") for name, description in _SOURCES.items()),
        *(
            _type(description, _subscriber_event(name, before, after), "subscriber")
            for name, (description, before, after) in _SUBSCRIBERS.items()
        ),
    ]
    return {one.name: one for one in types}


def known_types() -> Sequence[str]:
    """Names of all event types."""
    return (*_LAB_SAMPLES, *_SESSION_SAMPLES, TEST_TYPE, *_SOURCES, *_SUBSCRIBERS)


def covers_any(pattern: str) -> bool:
    """Whether a pattern of a subscription can ever match."""
    return any(type_matches(pattern, name) for name in known_types())


def patterns() -> Sequence[str]:
    """Every pattern that can match: what `covers_any` accepts, and nothing else."""
    found = set[str]()
    for name in known_types():
        first, *rest = name.split(".")
        for parts in ([first, *rest], ["*", *rest]):
            found.add(".".join(parts))
            found.update(".".join([*parts[:at], "*"]) for at in range(len(parts)))
    return sorted(found)


def nearest(pattern: str) -> Sequence[str]:
    """Up to three types that may have been meant by a pattern that matches none."""
    return difflib.get_close_matches(pattern, known_types(), 3, 0.5)


def _type(description: str, event: Event, kind: str) -> EventType:
    return EventType(event.type, description, payload_schema(event.type, description, kind), event.payload)


def _of_family(
    family: Family, row: _Row, samples: Mapping[str, tuple[str, _Sample]], source: str
) -> Sequence[EventType]:
    return [
        _type(description, _example(family, source, name, row, sample), family.entity_kind)
        for name, (description, sample) in samples.items()
    ]


def _example(family: Family, source: str, name: str, row: _Row, sample: _Sample) -> Event:
    """The event of that name among those that a poll makes of the sample."""
    before, after = sample
    known = None
    if before is not None:
        old = family.read(_encode({**row, **before}), _BEFORE)
        known = Snapshot(2, int(_BEFORE.timestamp()), old.marks, old.view)
    record = family.read(_encode({**row, **after}), _NOW)
    details = family.details(record)
    told = transitions(family, known, record, details)
    transition = next(one for one in told if one.event_type == name)
    return build(transition, Observation(source, _NOW), details, after=_BEFORE if known else None)


def _source_event(name: str) -> Event:
    health = Health()
    health.fail("timeout", "no complete answer within 30 s", _BEFORE)
    if name == "relay.source.recovered":
        health.stored = health_change("lod", "relay.source.degraded", health, _BEFORE, None).new
    gap = (_NOW - timedelta(days=9), _NOW - timedelta(days=7)) if name == "relay.source.gap" else None
    return health_change("lod", name, health, _NOW, gap).events[0]


def _subscriber_event(name: str, before: str, after: str) -> Event:
    transition = Transition("subscriber", _SUBSCRIBER, 1, name, before, after, {}, None, first_seen=False)
    details = Details(None, None, None, None, _encode({"subscriber_id": _SUBSCRIBER}), b"")
    return build(transition, Observation(OWN, _NOW), details, after=None)
