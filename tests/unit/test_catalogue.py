"""The catalogue of event types: complete, honest, and its examples are what is really sent."""

import itertools
import json
import re
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]  # the library has no annotations
import pytest

import relay.poller
from relay.core.catalogue import catalogue, covers_any, known_types, nearest
from relay.core.lab import STATUS_NAMES, LabFamily, LabView
from relay.core.session import COMPLETED, DISCARDED, INCOMPLETE, PENDING, SessionFamily, SessionView

NOT_YET_SENT = {"relay.subscriber.failing", "relay.subscriber.disabled", "relay.subscriber.recovered"}


def _lab_types() -> set[str]:
    """Every type that any change of a lab can mean."""
    family = LabFamily(progress=True)
    views = [LabView(code, end, "1", None, None, None, 1) for code in (*STATUS_NAMES, 99) for end in (None, 5)]
    views += [
        LabView(4, 5, user, None, score, passed, 2)
        for user in "12"
        for score in (None, 1, 2)
        for passed in (False, True)
    ]
    steps = [step for view in views for step in family.first_steps(view)]
    steps += [step for old, new in itertools.product(views, repeat=2) for step in family.steps(old, new)]
    return {step.event_type for step in steps}


def _session_types() -> set[str]:
    """Every type that any change of a session can mean."""
    family = SessionFamily(progress=True)
    states = (INCOMPLETE, COMPLETED, DISCARDED, PENDING, "Something New")
    views = [SessionView(state, at, count) for state in states for at in (None, "a", "b") for count in (1, 2)]
    steps = [step for view in views for step in family.first_steps(view)]
    steps += [step for old, new in itertools.product(views, repeat=2) for step in family.steps(old, new)]
    return {step.event_type for step in steps}


def _own_types() -> set[str]:
    """Every type that the poller tells about a source."""
    return set(re.findall(r'"(relay\.source\.\w+)"', Path(relay.poller.__file__).read_text("utf-8")))


def test_the_catalogue_holds_what_can_be_sent_and_nothing_else() -> None:
    """Explored over all pairs of states: a rule without an entry fails here, and so does an entry without a rule."""
    emitted = _lab_types() | _session_types() | _own_types() | {"relay.test"}
    assert emitted | NOT_YET_SENT == set(known_types())
    assert list(known_types()) == list(catalogue())


@pytest.mark.parametrize("name", known_types())
def test_an_example_is_valid_and_of_its_type(name: str) -> None:
    """The schema is a valid schema, the example fits it, and the schema is not so lax that another type's would."""
    one = catalogue()[name]
    jsonschema.Draft202012Validator.check_schema(one.schema)
    validator = jsonschema.Draft202012Validator(one.schema)
    example = json.loads(one.example)
    validator.validate(example)
    assert example["type"] == name
    other = json.loads(catalogue()["lab.completed" if name != "lab.completed" else "lab.started"].example)
    assert not validator.is_valid(other)
    assert not validator.is_valid({**example, "data": {**example["data"], "sequence": 0}})
    assert one.description.endswith((".", ")."))


@pytest.mark.parametrize("name", [name for name in known_types() if not name.startswith("relay.")])
def test_an_example_tells_a_consistent_story(name: str) -> None:
    """First sight has no past; everything else was observed between two times, and a score is among the changes."""
    data = json.loads(catalogue()[name].example)["data"]
    assert data["first_seen"] == (data["transition"]["from"] is None) == (data["observed"]["after"] is None)
    assert data["transition"]["to"] is not None
    assert ("ExamScore" in data["changes"]) == ("score" in name)


def test_a_source_recovers_from_being_degraded() -> None:
    """Each `from` is the previous `to` in the relay's own events too."""
    data = json.loads(catalogue()["relay.source.recovered"].example)["data"]
    assert data["transition"] == {"from": "degraded", "to": "ok"}


def test_examples_are_distinct_events() -> None:
    """No two examples share an event id."""
    ids = [json.loads(one.example)["data"]["event_id"] for one in catalogue().values()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("pattern", ["*", "lab.*", "lab.failed.*", "*.completed", "relay.source.gap", "session.*"])
def test_patterns_that_can_match(pattern: str) -> None:
    """Exact, a family, a verb."""
    assert covers_any(pattern)


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("lab.complete", "lab.completed"),
        ("labs.completed", "lab.completed"),
        ("sesion.submitted", "session.submitted"),
        ("lab.completed.*", "lab.completed"),
        ("Lab.Completed", None),
        ("", None),
        ("**", None),
    ],
)
def test_a_pattern_that_matches_nothing_is_explained(pattern: str, meant: str | None) -> None:
    """What may have been meant comes first."""
    assert not covers_any(pattern)
    if meant is not None:
        assert nearest(pattern)[0] == meant
