"""Samples of rows that were kept out: enough to find the fault, nothing of what the row says."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.errors import InvalidRecordError
from relay.core.health import Health, Status
from relay.core.lab import LabFamily
from relay.core.memory import Digest, Memory
from relay.core.model import Family, Observation
from relay.core.quarantine import MAX_PER_REASON, MAX_SAMPLES, Sample, sample_of
from relay.core.session import SessionFamily
from tests.service.upstreams import NOW

LAB = {"LabInstanceId": 7, "CompletionStatus": 3, "UserId": "ann@example.org", "IpAddress": "192.0.2.9"}
SESSION = {"session_id": "s-1", "status": "Incomplete", "user_id": "ann@example.org"}


def _sampled(family: Family, row: object) -> Sample:
    digest = Memory(family, {}).digest([json.dumps(row).encode()], Observation("lod", NOW))
    (sample,) = digest.samples.kept
    assert digest.invalid == {sample.reason: 1}
    return sample


@pytest.mark.parametrize(
    ("family", "row", "field", "shape", "entity_id"),
    [
        (LabFamily(), {**LAB, "CompletionStatus": "ann@example.org"}, "CompletionStatus", "text of 17 bytes", "7"),
        (LabFamily(), {**LAB, "CompletionStatus": [1, 2]}, "CompletionStatus", "array of 6 bytes", "7"),
        (LabFamily(), {**LAB, "ExamPassed": {"a": 1}}, "ExamPassed", "object of 8 bytes", "7"),
        (LabFamily(), {**LAB, "ExamScore": 10**20}, "ExamScore", "number of 21 bytes", "7"),
        (LabFamily(), {**LAB, "End": -(10**15)}, "End", "number of 17 bytes", "7"),
        (LabFamily(), {"CompletionStatus": 3}, "LabInstanceId", "missing", None),
        (LabFamily(), {**LAB, "LabInstanceId": None}, "LabInstanceId", "null", None),
        (LabFamily(), ["ann@example.org"], None, "array of 19 bytes", None),
        (SessionFamily(), {**SESSION, "status": ""}, "status", "text of 2 bytes", "s-1"),
        (SessionFamily(), {**SESSION, "dt_completed": "ann"}, "dt_completed", "text of 5 bytes", "s-1"),
        (SessionFamily(), {**SESSION, "session_id": "a\x00b"}, "session_id", "text of 10 bytes", None),
        (SessionFamily(), {**SESSION, "session_id": "x" * 500}, "session_id", "text of 502 bytes", None),
    ],
)
def test_a_sample_names_field_shape_and_entity(
    family: Family, row: object, field: str | None, shape: str, entity_id: str | None
) -> None:
    """The value itself is not there, nor is any other field's; an id that cannot be used is not shown either."""
    sample = _sampled(family, row)
    assert (sample.field, sample.shape, sample.entity_id, sample.at) == (field, shape, entity_id, NOW)
    assert "ann" not in repr(sample)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda one: st.lists(one) | st.dictionaries(st.text(), one),
    )
)
def test_no_value_of_a_row_is_ever_part_of_a_sample(value: object) -> None:
    """Whatever the row: what is kept of a field is its JSON type and its length."""
    raw = json.dumps({"LabInstanceId": 7, "CompletionStatus": value, "UserId": value}).encode()
    sample = sample_of(
        raw, InvalidRecordError("CompletionStatus is out of range", "CompletionStatus"), "LabInstanceId", NOW
    )
    kind, _, rest = sample.shape.partition(" of ")
    assert kind in ("text", "array", "object", "boolean", "null", "number", "not JSON")
    assert rest in ("", f"{len(json.dumps(value).encode())} bytes")
    assert sample.entity_id == "7"


@given(st.binary())
def test_bytes_that_are_no_json_are_told_of_too(raw: bytes) -> None:
    """No bytes make the making of a sample fail."""
    assert sample_of(raw, InvalidRecordError("not a JSON object"), "LabInstanceId", NOW).reason == "not a JSON object"


def test_samples_are_few_and_of_many_reasons() -> None:
    """Thousands of bad rows leave a handful of samples, and one reason does not crowd out another."""
    rows = [json.dumps({**LAB, "LabInstanceId": number, "ExamScore": "x"}).encode() for number in range(2000)]
    rows += [json.dumps({**LAB, "LabInstanceId": number, name: [1]}).encode() for number in range(9) for name in LAB]
    digest = Memory(LabFamily(), {}).digest(rows, Observation("lod", NOW))
    reasons = [one.reason for one in digest.samples.kept]
    assert len(reasons) <= MAX_SAMPLES
    assert max(map(reasons.count, reasons)) == MAX_PER_REASON
    assert len(set(reasons)) >= 3
    total = Digest()
    for _ in range(5):
        total.add(digest)
    assert len(total.samples.kept) <= MAX_SAMPLES


def test_samples_survive_in_the_status() -> None:
    """What one replica has kept, another one can show; a status of an earlier version has none."""
    digest = Memory(LabFamily(), {}).digest([b"[]"], Observation("lod", NOW))
    health = Health()
    health.succeed(NOW, digest, 0, 0)
    again = Health.restore(health.status(), None)
    assert again.status() == health.status()
    assert msgspec.json.decode(again.status(), type=Status).invalid_samples == digest.samples.kept
    assert len(digest.samples.kept) == 1
    former = Health.restore('{"status": "ok", "rows": 3}', None).status()
    assert msgspec.json.decode(former, type=Status).invalid_samples == []
