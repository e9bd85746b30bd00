"""Lab instances: the contract's event table, and how a row of LatestResults is read."""

import itertools
import json
from typing import Any

import pytest

from relay.core.errors import InvalidRecordError
from relay.core.lab import STATUS_NAMES, LabFamily
from tests.unit.entities import LABS, NOW, NOW_S, LabState, lab_row, told, types
from tests.unit.oracle import lab_types

STATUSES = (*STATUS_NAMES, 0, 99)
ENDED = NOW_S - 100

TABLE: list[tuple[dict[str, Any] | None, dict[str, Any], list[str]]] = [
    (None, {"CompletionStatus": 2}, ["lab.started"]),
    (None, {"CompletionStatus": 3}, ["lab.started"]),
    (None, {"CompletionStatus": 3, "End": ENDED}, ["lab.ended_incomplete"]),
    (None, {"CompletionStatus": 2, "End": ENDED}, ["lab.no_show"]),
    (None, {"CompletionStatus": 4, "End": ENDED, "ExamScore": 80, "ExamPassed": True}, ["lab.completed"]),
    (None, {"CompletionStatus": 50}, ["lab.submitted"]),
    (None, {"CompletionStatus": 99}, ["lab.status_changed"]),
    ({"CompletionStatus": 2}, {"CompletionStatus": 3}, ["lab.engaged"]),
    ({"CompletionStatus": 2}, {"CompletionStatus": 3, "End": ENDED}, ["lab.ended_incomplete"]),
    ({"CompletionStatus": 3}, {"CompletionStatus": 2}, ["lab.status_changed"]),
    ({}, {"CompletionStatus": 50}, ["lab.submitted"]),
    ({"CompletionStatus": 50}, {"CompletionStatus": 60}, ["lab.grading_started"]),
    ({"CompletionStatus": 60}, {"CompletionStatus": 4}, ["lab.completed"]),
    ({}, {"End": ENDED}, ["lab.ended_incomplete"]),
    ({"CompletionStatus": 2}, {"CompletionStatus": 2, "End": ENDED}, ["lab.no_show"]),
    ({"End": ENDED}, {"End": ENDED + 1}, []),
    ({}, {"CompletionStatus": 1}, ["lab.cancelled"]),
    ({}, {"CompletionStatus": 10}, ["lab.failed.storage_provisioning"]),
    ({}, {"CompletionStatus": 20}, ["lab.failed.creation"]),
    ({}, {"CompletionStatus": 30}, ["lab.failed.resume"]),
    ({}, {"CompletionStatus": 40}, ["lab.failed.save"]),
    ({"CompletionStatus": 30}, {"CompletionStatus": 3}, ["lab.reopened"]),
    ({"CompletionStatus": 4, "End": ENDED}, {"CompletionStatus": 3}, ["lab.reopened"]),
    ({"End": ENDED}, {}, ["lab.reopened"]),
    ({"CompletionStatus": 1}, {"CompletionStatus": 2}, ["lab.reopened"]),
    ({"CompletionStatus": 50}, {"CompletionStatus": 3}, ["lab.status_changed"]),
    ({}, {"CompletionStatus": 99}, ["lab.status_changed"]),
    ({"CompletionStatus": 99}, {"CompletionStatus": 98}, ["lab.status_changed"]),
    ({}, {"ExamScore": 0}, ["lab.scored"]),
    ({"ExamScore": 0}, {"ExamScore": 80.5}, ["lab.rescored"]),
    ({"ExamScore": 80}, {}, ["lab.score_cleared"]),
    ({"ExamPassed": False}, {"ExamPassed": True}, ["lab.outcome_changed"]),
    ({}, {"ExamPassed": True}, []),
    ({}, {"UserId": "556"}, ["lab.reassigned"]),
    ({}, {"UserId": None}, ["lab.reassigned"]),
    ({}, {"ClassId": "c"}, ["lab.reassigned"]),
    ({}, {"TaskCompletePercent": 90}, []),
]


@pytest.mark.parametrize(("old", "new", "expected"), TABLE)
def test_every_line_of_the_event_table(old: dict[str, Any] | None, new: dict[str, Any], expected: list[str]) -> None:
    """Each line of the contract's table gives its type and nothing else."""
    assert types(LABS, None if old is None else lab_row(**old), lab_row(**new)) == expected


def test_every_pair_of_states_agrees_with_the_contract() -> None:
    """All statuses, known or not, with and without `End` and a score, in every order: as the second reading says."""
    states = [LabState(*values) for values in itertools.product(STATUSES, (None, ENDED), ("5",), (None,), (None, 7))]
    for old, new in itertools.product((None, *states), states):
        assert types(LABS, old and old.row(), new.row()) == lab_types(old, new), (old, new)


def test_events_of_one_diff_come_in_the_contracts_order() -> None:
    """Who, how far, the score, the outcome, and only then the end; `from` and `to` join up."""
    old = LabState(3, passed=False, percent=10)
    new = LabState(4, ENDED, "6", "c", 80, passed=True, percent=100)
    found = told(LabFamily(progress=True), old.row(), new.row())
    assert [one.event_type for one in found] == [
        "lab.reassigned",
        "lab.progressed",
        "lab.scored",
        "lab.outcome_changed",
        "lab.completed",
    ]
    assert [(one.status_from, one.status_to) for one in found] == [("Incomplete", "Incomplete")] * 4 + [
        ("Incomplete", "Complete")
    ]
    assert [one.sequence for one in found] == [8, 9, 10, 11, 12]


def test_a_submission_precedes_the_score_that_comes_with_it() -> None:
    """An event after the one that moved the status names the new status twice."""
    found = told(LABS, lab_row(), lab_row(CompletionStatus=50, ExamScore=80))
    assert [(one.event_type, one.status_from, one.status_to) for one in found] == [
        ("lab.submitted", "Incomplete", "Submitted For Grading"),
        ("lab.scored", "Submitted For Grading", "Submitted For Grading"),
    ]


def test_what_is_never_an_event() -> None:
    """Activity, run time, hosts, geolocation and fields nobody knows change without a word."""
    new = lab_row(LastActivity=NOW_S, TotalRunTimeSeconds=9999, LabHostId=1, Country="FR", Latitude=1.5, Novel=[1])
    assert types(LABS, lab_row(), new) == []


@pytest.mark.parametrize("other", ["5", "5.0", "5.00000", "5e0", '"5"', '"5.00"'])
def test_scores_are_compared_as_numbers(other: str) -> None:
    """The three spellings that the vendor's commands use for one score are one score."""
    old, new = (lab_row(ExamScore="S").replace(b'"S"', text.encode()) for text in ("5", other))
    assert types(LABS, old, new) == []
    assert repr(LABS.read(new, NOW).view.score) == "5"  # type: ignore[attr-defined]  # a view is a LabView here


def test_progress_is_told_only_where_it_is_turned_on() -> None:
    """A rising percentage is an event for a source that asked for it; a falling one never is."""
    low, high = lab_row(TaskCompletePercent=10), lab_row(TaskCompletePercent=20)
    family = LabFamily(progress=True)
    assert types(family, low, high) == ["lab.progressed"]
    assert types(family, high, low) == []
    assert types(family, lab_row(TaskCompletePercent=None), high) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, {}, LABS.details(LABS.read(lab_row(), NOW)).started_at),
        ({}, {"CompletionStatus": 4, "End": ENDED}, ENDED),
        ({}, {"CompletionStatus": 4}, None),
        ({}, {"CompletionStatus": 40, "End": ENDED}, ENDED),
        ({"CompletionStatus": 50, "End": ENDED}, {"CompletionStatus": 60, "End": ENDED}, None),
        ({"CompletionStatus": 4, "End": ENDED}, {"CompletionStatus": 99, "End": ENDED}, None),
        ({"CompletionStatus": 4, "End": ENDED}, {}, None),
        ({"CompletionStatus": 4}, {"CompletionStatus": 4, "ExamScore": 1}, None),
    ],
)
def test_the_upstreams_own_time_belongs_to_the_events_that_it_dates(
    old: dict[str, Any] | None, new: dict[str, Any], expected: Any
) -> None:
    """Start dates the first sight of an open lab, End an end; grading, scores and unknown statuses have no time."""
    (one,) = told(LABS, None if old is None else lab_row(**old), lab_row(**new))
    assert (one.occurred_at and int(one.occurred_at.timestamp())) == (
        expected if expected is None or isinstance(expected, int) else int(expected.timestamp())
    )


def test_changes_name_the_upstreams_fields_without_the_status() -> None:
    """`changes` holds what differs, as it was and as it is."""
    (one,) = told(LABS, lab_row(), lab_row(CompletionStatus=4, End=ENDED))
    assert one.changes == {"End": {"from": None, "to": ENDED}}


def test_the_private_fields_leave_the_record_and_nothing_else_changes() -> None:
    """IP address and geolocation are kept apart, those without a value dropped; other values keep their bytes."""
    raw = (
        b'{"LabInstanceId": 1, "CompletionStatus": 3, "ExamScore": 5.00000, "IpAddress": "192.0.2.1",'
        b' "Country": null, "Latitude": 1.50, "Big": 9007199254740993, "New": [1.0, {}]}'
    )
    details = LABS.details(LABS.read(raw, NOW))
    assert details.private == b'{"IpAddress":"192.0.2.1","Latitude":1.50}'
    assert details.body == (
        b'{"LabInstanceId":1,"CompletionStatus":3,"ExamScore":5.00000,"Big":9007199254740993,"New":[1.0, {}]}'
    )


def test_an_escaped_name_does_not_smuggle_a_private_field() -> None:
    r"""`\u0049pAddress` is IpAddress."""
    raw = b'{"LabInstanceId":1,"CompletionStatus":3,"\\u0049pAddress":"192.0.2.1"}'
    assert b"192.0.2.1" not in LABS.details(LABS.read(raw, NOW)).body


def test_of_a_doubled_key_the_last_value_counts_everywhere() -> None:
    """What is compared is what is passed on."""
    record = LABS.read(b'{"LabInstanceId":1,"CompletionStatus":3,"CompletionStatus":4}', NOW)
    assert record.view[0] == json.loads(LABS.details(record).body)["CompletionStatus"] == 4


def test_times_may_be_a_little_ahead_but_not_a_day() -> None:
    """The vendor rounds, clocks differ; a time beyond a day keeps the row out."""
    assert LABS.read(lab_row(End=NOW_S + 1), NOW).view[1] == NOW_S + 1
    for field in ("Start", "End", "LastActivity"):
        with pytest.raises(InvalidRecordError, match=f"{field} lies in the future"):
            LABS.read(lab_row(**{field: NOW_S + 100_000}), NOW)


def test_open_means_that_something_may_still_come() -> None:
    """Running and waiting to be graded; not ended, failed or unknown."""
    states = [LabState(status, end) for status in STATUSES for end in (None, ENDED)]
    still = {(one.status, one.end) for one in states if LABS.is_open(LABS.read(one.row(), NOW).view)}
    assert still == {(2, None), (3, None), (50, None), (50, ENDED), (60, None), (60, ENDED)}


def test_a_status_without_a_name_keeps_its_number() -> None:
    """Unknown statuses are told apart."""
    assert LABS.status(LABS.read(lab_row(CompletionStatus=99), NOW).view) == "Status 99"
