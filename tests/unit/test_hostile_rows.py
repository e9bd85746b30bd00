"""What an upstream may send by mistake or malice: read sensibly or kept out with a reason, never a crash."""

import json
from typing import Any

import msgspec
import pytest

from relay.core.events import with_private
from relay.core.lab import LabFamily
from relay.core.matching import filter_refusal
from relay.core.memory import Memory
from relay.core.model import Family
from relay.core.rows import MAX_DEPTH
from relay.core.session import SessionFamily
from relay.core.subscriber import Filter
from tests.unit.entities import LAB, SESSION, lab_row, seen

FAMILIES: dict[str, tuple[Family, dict[str, Any]]] = {
    "lab": (LabFamily(progress=True), LAB),
    "session": (SessionFamily(progress=True), SESSION),
}
FIELDS = [(kind, field) for kind, (_, row) in FAMILIES.items() for field in (*row, "Novel")]

VALUES = (
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b'"nan"',
    b'"-inf"',
    b"1e300",
    b"-1e300",
    b"9007199254740993",
    b"18446744073709551616",
    b"9" * 400,
    b"9" * 5000,
    b'"' + b"9" * 5000 + b'"',
    b'"' + b"x" * 10_000 + b'"',
    b"253402300800",
    b"-62135596801",
    b"-1",
    b"-0.0",
    b"1.5",
    b"true",
    b'"true"',
    b"null",
    b'"null"',
    b'""',
    b'" "',
    b"[]",
    b"{}",
    b'{"a":{"b":[1,{"c":null}]}}',
    b"[" * 900 + b"]" * 900,
    b"[" * 100_000 + b"]" * 100_000,
    b'"\\ud800"',
    b'"\\u0000"',
    b'"\\x"',
    b'"\x01"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"0001-01-01T00:00:00+14:00"',
    b'"9999-12-31T23:59:59-14:00"',
    b'"2026-13-01"',
    b'"yesterday"',
    b"",
    b"}",
)


def survive(family: Family, raw: bytes) -> str | None:
    """Take one row all the way through: read, told, packed, restored, decoded by everybody. The reason if kept out."""
    memory = Memory(family, {})
    digest = memory.digest([raw], seen())
    assert len(digest.changes) + digest.invalid.total() == 1
    for change in digest.changes:
        for event in change.events:
            json.loads(event.payload)
            msgspec.json.decode(with_private(event.payload, event.private))
            filter_refusal(Filter(lab_profile_ids=("1",), activity_ids=("1",)), event.payload)
    memory.adopt(digest.changes, seen())
    again = Memory(family, memory.stored())
    assert again.stored() == memory.stored()
    assert not again.digest([raw], seen(60)).changes
    return next(iter(digest.invalid), None)


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_no_value_of_any_field_breaks_the_relay(kind: str, field: str) -> None:
    """Each hostile value in each field ends as an event that everybody can decode, or as a counted reason."""
    family, row = FAMILIES[kind]
    for value in VALUES:
        raw = json.dumps({**row, field: "@"}).encode().replace(b'"@"', value)
        survive(family, raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"7",
        b'"x"',
        b"{",
        b"{}",
        b"\xff",
        b"\xef\xbb\xbf" + lab_row(LabInstanceId=1),
        lab_row(LabInstanceId=1) + b"x",
        lab_row(LabInstanceId=1)[:-1],
        b'{"\xff":1,' + lab_row(LabInstanceId=1)[1:],
        b'{"\\ud800":1,' + lab_row(LabInstanceId=1)[1:],
        b"{" * 100_000,
    ],
)
def test_what_is_not_a_row_is_kept_out(raw: bytes) -> None:
    """Whatever the bytes are, the rest of the page goes on."""
    digest = Memory(LabFamily(), {}).digest([raw, lab_row()], seen())
    assert digest.invalid.total() == 1
    assert [change.entity_id for change in digest.changes] == ["349744"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("LabInstanceId", True),
        ("LabInstanceId", "x" * 10_000),
        ("LabInstanceId", None),
        ("CompletionStatus", True),
        ("CompletionStatus", None),
        ("CompletionStatus", 2**53 + 1),
        ("End", True),
        ("End", "yesterday"),
        ("LastActivity", "inf"),
        ("ExamScore", "nan"),
        ("ExamScore", 1e300),
        ("ExamScore", True),
        ("ExamPassed", "perhaps"),
        ("UserId", ["5"]),
        ("UserId", {}),
    ],
)
def test_a_value_of_the_wrong_kind_is_never_guessed_at(field: str, value: object) -> None:
    """A boolean is no number, a number without end no score; the reason names the field and never the value."""
    reason = survive(LabFamily(), lab_row(**{field: value}))
    assert reason is not None
    assert field in reason
    assert "x" * 20 not in reason
    assert "perhaps" not in reason
    assert "yesterday" not in reason


def test_the_reasons_are_few() -> None:
    """A page of rows that are each wrong in their own way does not grow the status without bound."""
    rows = [lab_row(ExamScore=f"secret {number}") for number in range(100)]
    digest = Memory(LabFamily(), {}).digest(rows, seen())
    assert len(digest.invalid) == 1
    assert "secret" not in str(digest.invalid)


@pytest.mark.parametrize(("depth", "accepted"), [(MAX_DEPTH - 2, True), (MAX_DEPTH + 1, False)])
def test_nesting_has_a_bound(depth: int, accepted: bool) -> None:  # noqa: FBT001  # a row of a table
    """What nests within reason is passed on, what would exhaust a reader's stack is not."""
    raw = lab_row(Novel="@").replace(b'"@"', b"[" * depth + b"]" * depth)
    assert (survive(LabFamily(), raw) is None) == accepted


def test_a_row_that_cannot_be_passed_on_does_not_stop_its_entity() -> None:
    """The row is kept out as long as it is unsound; the next sound one tells what changed."""
    memory = Memory(LabFamily(), {})
    memory.adopt(memory.digest([lab_row()], seen()).changes, seen())
    unsound = lab_row(CompletionStatus=4, Novel="@").replace(b'"@"', b'"\xff"')
    assert memory.digest([unsound], seen(30)).invalid.total() == 1
    (change,) = memory.digest([lab_row(CompletionStatus=4)], seen(60)).changes
    assert [event.type for event in change.events] == ["lab.completed"]
