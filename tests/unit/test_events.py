"""Event ids and payload bytes."""

import base64
import dataclasses
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from relay.core.diff import Transition
from relay.core.events import build, event_id, named_id, rfc3339, with_private
from relay.core.model import Details, Event, Observation
from tests.unit.entities import LABS, NOW, lab_row, seen, told

ENDED = int(NOW.timestamp()) - 100


def completed(**changes: Any) -> Transition:
    """The completion of a lab."""
    return told(LABS, lab_row(), lab_row(CompletionStatus=4, End=ENDED, **changes))[-1]


def built(raw: bytes, observation: Observation, *, after: datetime | None = None) -> Event:
    """The event of a completion whose row is `raw`."""
    details = LABS.details(LABS.read(raw, NOW))
    return build(told(LABS, lab_row(), raw)[-1], observation, details, after=after)


def test_an_id_has_one_shape() -> None:
    """`evt_` and 26 letters and digits: 130 bits, safe in URLs and headers."""
    assert re.fullmatch(r"evt_[a-z2-7]{26}", event_id("lod", completed()))
    assert re.fullmatch(r"evt_[a-z2-7]{26}", named_id("relay.test", "sub_1", 1))


def test_the_recipe_of_an_id_is_fixed() -> None:
    """It is written out here, because a change of it makes every replica of a rolling upgrade mint other ids."""
    said = [
        "lod",
        "349744",
        8,
        "lab.completed",
        "Incomplete",
        "Complete",
        [["End", None, ENDED]],
        rfc3339(datetime.fromtimestamp(ENDED, UTC)),
        [4, ENDED, "555", None, None, None, None],
    ]
    digest = hashlib.sha256(json.dumps(said, separators=(",", ":")).encode()).digest()
    assert event_id("lod", completed()) == "evt_" + base64.b32encode(digest).decode().lower()[:26]


@pytest.mark.parametrize(
    "other",
    [
        {"entity_id": "1"},
        {"sequence": 9},
        {"event_type": "lab.cancelled"},
        {"status_from": None},
        {"status_to": "Cancelled"},
        {"changes": {"End": {"from": 1, "to": ENDED}}},
        {"changes": {}},
        {"occurred_at": None},
        {"state": ()},
    ],
)
def test_whatever_a_transition_says_is_in_its_id(other: dict[str, Any]) -> None:
    """Two transitions that differ in anything they say never share an id."""
    one = completed()
    assert event_id("lod", dataclasses.replace(one, **other)) != event_id("lod", one)
    assert event_id("lod2", one) != event_id("lod", one)


def test_the_parts_of_an_id_cannot_run_into_each_other() -> None:
    """Moving a character from one part to the next gives another id."""
    assert named_id("ab", "c") != named_id("a", "bc")
    assert named_id("a", 1) != named_id("a", "1")
    one = completed()
    assert event_id("lod1", dataclasses.replace(one, entity_id="2")) != event_id(
        "lod", dataclasses.replace(one, entity_id="12")
    )


def test_when_and_how_it_was_seen_is_not_in_the_id() -> None:
    """Observation time, backfill and untracked fields do not make another event."""
    events = [
        built(lab_row(CompletionStatus=4, End=ENDED), seen()),
        built(lab_row(CompletionStatus=4, End=ENDED, TotalRunTimeSeconds=1), seen(9000, backfill=True), after=NOW),
    ]
    assert len({event.id for event in events}) == 1


def test_two_first_sights_with_other_contents_are_two_events() -> None:
    """A forgotten lab that comes back with another score must not use the id of its first first sight."""
    ids = {
        event_id("lod", told(LABS, None, lab_row(CompletionStatus=4, End=ENDED, ExamScore=score))[0])
        for score in (None, 80, 81)
    }
    assert len(ids) == 3


def test_the_payload_is_what_the_contract_says() -> None:
    """Every member, no other, and the record as it came."""
    raw = lab_row(CompletionStatus=4, End=ENDED, ExamScore=80, IpAddress="192.0.2.1")
    after = NOW - timedelta(seconds=30)
    event = built(raw, seen(0.1239), after=after)
    payload = json.loads(event.payload)
    record = {name: value for name, value in json.loads(raw).items() if name not in {"IpAddress", "Country"}}
    assert payload == {
        "type": "lab.completed",
        "timestamp": "2026-11-21T17:00:00.123Z",
        "data": {
            "event_id": event.id,
            "source": "lod",
            "entity": {"kind": "lab_instance", "id": "349744"},
            "sequence": 9,
            "transition": {"from": "Incomplete", "to": "Complete"},
            "observed": {"after": "2026-11-21T16:59:30.000Z", "at": "2026-11-21T17:00:00.123Z"},
            "occurred_at": rfc3339(datetime.fromtimestamp(ENDED, UTC)),
            "first_seen": False,
            "backfill": False,
            "user_id": "555",
            "class_id": None,
            "changes": {"End": {"from": None, "to": ENDED}, "ExamScore": {"from": None, "to": 80}},
            "record": record,
        },
    }
    assert (event.type, event.source, event.entity_id) == ("lab.completed", "lod", "349744")
    assert event.private == b'{"IpAddress":"192.0.2.1"}'


def test_private_fields_come_back_only_where_asked_and_bytes_stay() -> None:
    """Adding IP and geolocation to the record changes no other byte of any value."""
    raw = b'{"LabInstanceId":1,"CompletionStatus":3,"ExamScore":5.00000,"Latitude":1.50,"New":{"a": 1.0}}'
    event = built(raw, seen())
    assert b"Latitude" not in event.payload
    full = with_private(event.payload, event.private)
    assert full.startswith(event.payload[:-3])
    assert full.endswith(b',"ExamScore":5.00000,"New":{"a": 1.0},"Latitude":1.50}}}')


def test_without_private_fields_the_payload_is_the_same_object() -> None:
    """Nothing is decoded for nothing."""
    payload = built(lab_row(CompletionStatus=4), seen()).payload
    assert with_private(payload, b"") is payload


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (None, None),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00.000Z"),
        (datetime(2026, 1, 1, 1, 2, 3, 999_999, tzinfo=timezone(timedelta(hours=2))), "2025-12-31T23:02:03.999Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_times_are_rfc3339_in_utc(moment: datetime | None, expected: str | None) -> None:
    """Milliseconds, never rounded up into a moment that has not been."""
    assert rfc3339(moment) == expected


def test_details_without_a_record_still_make_a_payload() -> None:
    """The relay's own events have no upstream row."""
    transition = Transition("source", "lod", 1, "relay.source.gap", "ok", "ok", {}, None, first_seen=False)
    event = build(transition, seen(source="relay"), Details(None, None, None, None, b"{}", b""), after=None)
    assert json.loads(event.payload)["data"]["record"] == {}
