"""JSON Schema (2020-12) of the payloads, one per event type.

Objects stay open: both upstreams add fields without notice, and so may the relay.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TIME: Schema = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_ID_OR_NULL: Schema = {"type": ["string", "integer", "null"]}
_NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}


def _object(properties: Schema, *, optional: Sequence[str] = (), **more: Any) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, **more}


_LAB_PROPERTIES: Schema = {
    "LabInstanceId": {"type": "integer"},
    "LabProfileId": {"type": "integer"},
    "Start": {"type": "number", "description": "Unix seconds."},
    "End": {**_NUMBER_OR_NULL, "description": "Unix seconds; null while the lab is open."},
    "LastActivity": {**_NUMBER_OR_NULL, "description": "Unix seconds."},
    "UserId": _ID_OR_NULL,
    "ClassId": _ID_OR_NULL,
    "CompletionStatus": {"type": "integer"},
    "TotalRunTimeSeconds": {"type": "number"},
    "TaskCompletePercent": {"type": "number"},
    "IsExam": {"type": "boolean"},
    "ExamPassed": {"type": ["boolean", "null"]},
    "ExamScore": {**_NUMBER_OR_NULL, "description": "An integer or a decimal: compare it numerically."},
    "ExamMaxPossibleScore": _NUMBER_OR_NULL,
    "ExamPassingScore": _NUMBER_OR_NULL,
}
_SESSION_PROPERTIES: Schema = {
    "session_id": {"type": "string"},
    "user_id": _ID_OR_NULL,
    "activity_id": _TEXT_OR_NULL,
    "activity_template_id": _TEXT_OR_NULL,
    "status": {"type": "string"},
    "num_attempted": _NUMBER_OR_NULL,
    "num_questions": _NUMBER_OR_NULL,
    "session_duration": {"description": "As the upstream says it; its unit is not documented."},
    "dt_started": _TEXT_OR_NULL,
    "dt_completed": _TEXT_OR_NULL,
}


def _row(properties: Schema, required: Sequence[str], description: str) -> Schema:
    optional = [name for name in properties if name not in required]
    return _object(properties, optional=optional, description=description)


_RECORDS: Mapping[str, Schema] = {
    "lab_instance": _row(
        _LAB_PROPERTIES,
        ("LabInstanceId", "CompletionStatus"),
        "The row of LatestResults. IP address and geolocation only with `include_pii`.",
    ),
    "session": _row(_SESSION_PROPERTIES, ("session_id", "status"), "The row of sessions/statuses."),
    "source": {"type": "object", "description": "The source, and the error or the span that this is about."},
    "subscriber": {"type": "object", "description": "What this is about."},
}

_CHANGES: Schema = {
    "type": "object",
    "description": "Tracked fields that differ from the previous observation, by the upstream's names.",
    "additionalProperties": _object({"from": {}, "to": {}}),
}


def payload_schema(event_type: str, description: str, kind: str) -> Schema:
    """Schema of one type's payload in the `standard` format; `kind` is the kind of its entity."""
    data = _object(
        {
            "event_id": {"type": "string", "pattern": "^evt_[a-z2-7]{26}$", "description": "The webhook-id."},
            "source": {"type": "string"},
            "entity": _object({"kind": {"const": kind}, "id": {"type": "string"}}),
            "sequence": {"type": "integer", "minimum": 1, "description": "Per entity, without holes."},
            "transition": _object({"from": _TEXT_OR_NULL, "to": _TEXT_OR_NULL}),
            "observed": _object(
                {"after": _TIME_OR_NULL, "at": _TIME}, description="It happened between these two observations."
            ),
            "occurred_at": {**_TIME_OR_NULL, "description": "The upstream's own time for it, if it has one."},
            "first_seen": {"type": "boolean"},
            "backfill": {"type": "boolean", "description": "Seen while catching up, not as it happened."},
            "user_id": _TEXT_OR_NULL,
            "class_id": _TEXT_OR_NULL,
            "changes": _CHANGES,
            "record": _RECORDS[kind],
        }
    )
    properties = {"type": {"const": event_type}, "timestamp": _TIME, "data": data}
    return {"$schema": DIALECT, "title": event_type, "description": description, **_object(properties)}
