"""What the API's objects look like, for its description; every one is tested against its schema."""

import json
from typing import Any, Final

from relay.core.catalogue import catalogue

_SUBSCRIBER_ID: Final = "sub_tjeh81l6cd5glr0zt8m1ak"
_SECRET: Final = "whsec_aqxg4h6rBIy/Qks6QqVjL5d7ir/5UAf7QsdKYD/QwJE="  # noqa: S105 - it signs nothing
_AT: Final = "2026-11-21T17:00:00.123Z"

EVENT: Final[dict[str, Any]] = json.loads(catalogue()["lab.completed"].example)
CURSOR: Final = "WyJldmVudCIsMTc5NTI4MDQwMDEyMywwXQ"
_EVENT_ID: Final = str(EVENT["data"]["event_id"])
EVENT_TYPE: Final[dict[str, Any]] = {
    "type": "lab.completed",
    "description": catalogue()["lab.completed"].description,
    "schema": {"type": "object", "properties": {"type": {"const": "lab.completed"}}},
    "example": EVENT,
}

FILTER: Final[dict[str, Any]] = {
    "sources": ["lod"],
    "user_ids": [],
    "class_ids": ["cls-7"],
    "lab_profile_ids": [],
    "activity_ids": [],
    "from": [],
    "to": [],
}
NEW_SUBSCRIBER: Final[dict[str, Any]] = {
    "url": "https://lms.example.org/hooks",
    "event_types": ["lab.*", "session.completed"],
    "filter": {"sources": ["lod"], "class_ids": ["cls-7"]},
}
SUBSCRIBER_CHANGE: Final[dict[str, Any]] = {"url": "https://lms.example.org/hooks", "timeout_s": 30}
SUBSCRIBER: Final[dict[str, Any]] = {
    "id": _SUBSCRIBER_ID,
    "url": "https://lms.example.org/hooks",
    "description": "",
    "enabled": True,
    "event_types": ["lab.*", "session.completed"],
    "filter": FILTER,
    "headers": {"X-Tenant": "a"},
    "format": "standard",
    "signature": "v1",
    "public_key": None,
    "previous_public_keys": [],
    "previous_secrets": [],
    "ordering": "none",
    "max_in_flight": 16,
    "rate_per_s": None,
    "timeout_s": 15,
    "retry_schedule_s": None,
    "include_pii": False,
    "state": {"status": "ok", "reason": None, "failing_since": None, "failures": 0, "resting_until": None},
    "created_at": _AT,
    "updated_at": _AT,
}
SECRET_SUBSCRIBER: Final[dict[str, Any]] = {**SUBSCRIBER, "secret": _SECRET}

_TEST_ATTEMPT: Final[dict[str, Any]] = {
    "attempt_no": 1,
    "at": _AT,
    "outcome": "status",
    "status_code": 500,
    "duration_ms": 41,
    "dns_ms": 2,
    "connect_ms": 11,
    "first_byte_ms": 27,
    "detail": "HTTP 500",
    "response_body": "try later",
}
PING: Final[dict[str, Any]] = {"event_id": "evt_vrwfcrpmkzptqt2bhqbkrz4ar4", "attempt": _TEST_ATTEMPT, "resumed": False}
ATTEMPT: Final[dict[str, Any]] = {**_TEST_ATTEMPT, "verdict": "retry", "next_attempt_at": "2026-11-21T17:00:05.423Z"}

_DELIVERY: Final[dict[str, Any]] = {
    "id": f"dlv_{_SUBSCRIBER_ID.removeprefix('sub_')}_{_EVENT_ID.removeprefix('evt_')}",
    "event_id": _EVENT_ID,
    "event_type": "lab.completed",
    "event_at": _AT,
    "subscriber_id": _SUBSCRIBER_ID,
    "status": "pending",
    "next_attempt_at": "2026-11-21T17:00:05.423Z",
    "cause": None,
    "died_at": None,
}
DELIVERY_SUMMARY: Final[dict[str, Any]] = {**_DELIVERY, "attempts": 1, "waits_for": "retry"}
WAIT: Final[dict[str, Any]] = {
    "reason": "retry",
    "detail": "attempt 1 failed: attempt 2 is due then",
    "until": "2026-11-21T17:00:05.423Z",
}
DELIVERY: Final[dict[str, Any]] = {**_DELIVERY, "attempts": [ATTEMPT], "attempts_complete": True}

ERASURE: Final[dict[str, Any]] = {
    "pseudonym": "erased:3fb8c5de.0f6ad1c29b7e4d5883aa61c07be2d94e",
    "sources": [
        {"source": "learnosity", "entities": 0, "events": 4, "retries": 1, "dead_letters": 0, "answers": 1},
        {"source": "lod", "entities": 2, "events": 7, "retries": 0, "dead_letters": 1, "answers": 3},
    ],
    "subscribers_naming_user": [_SUBSCRIBER_ID],
    "on_disk_by": "2026-11-21T17:03:00.123Z",
}
SOURCE: Final[dict[str, Any]] = {
    "name": "lod",
    "kind": "lod",
    "interval_s": 30.0,
    "watermark": _AT,
    "lag_s": 12.4,
    "status": "ok",
    "last_poll_at": _AT,
    "last_good_poll_at": _AT,
    "failures": 0,
    "error": None,
    "rows": 300,
    "entities": 304,
    "open_entities": 8,
    "older_rows": 0,
    "invalid_rows": {"End is not a time": 1},
    "invalid_samples": [
        {
            "reason": "End is not a time",
            "field": "End",
            "shape": "text of 12 bytes",
            "entity_id": "349744",
            "at": _AT,
        }
    ],
    "held_back": 0,
    "held_back_entities": [],
    "next_poll_at": "2026-11-21T17:00:30.123Z",
    "wait_until": None,
    "overdue_s": 0.0,
    "freshness": "fresh",
}
POLL: Final[dict[str, Any]] = {"source": "lod", "requested_at": _AT, "expected_at": _AT, "note": None}

EXPLANATION: Final[dict[str, Any]] = {
    "event_id": _EVENT_ID,
    "type": "lab.completed",
    "source": "lod",
    "entity": EVENT["data"]["entity"],
    "sequence": EVENT["data"]["sequence"],
    "logged_at": _AT,
    "observed": {
        **EVENT["data"]["observed"],
        "within_s": 30.0,
        "poll_interval_s": 30.0,
        "first_seen": False,
        "backfill": False,
    },
    "occurred_at": EVENT["data"]["occurred_at"],
    "transition": EVENT["data"]["transition"],
    "changes": EVENT["data"]["changes"],
    "rule": "CompletionStatus became 4 (Complete)",
    "meaning": catalogue()["lab.completed"].description,
    "data": [
        {
            "subscriber_id": _SUBSCRIBER_ID,
            "description": "",
            "enabled": True,
            "verdict": "refused",
            "detail": "its filter says no: see refused_by",
            "refused_by": {"condition": "class_ids", "allowed": ["cls-7"], "value": None},
            "delivery": None,
            "waits": [],
        }
    ],
    "next_cursor": None,
}
STREAMED: Final = {"id": CURSOR, "event": "lab.completed", "data": json.dumps({**EVENT, "cursor": CURSOR})}
REPLAY: Final[dict[str, Any]] = {
    "id": "rpl_9w2kq0c4m7x1b8t5n3z6aj",
    "subscriber_id": _SUBSCRIBER_ID,
    "status": "running",
    "reason": None,
    "only": "undelivered",
    "event_types": ["lab.*"],
    "since": "2026-11-20T00:00:00.000Z",
    "begins_at": "2026-11-20T00:00:07.018Z",
    "until": _AT,
    "count": 1240,
    "count_complete": True,
    "matched": 3117,
    "sent": 612,
    "progress": 0.4931,
    "position": "2026-11-20T20:12:31.402Z",
    "created_at": _AT,
    "finished_at": None,
    "note": None,
}
HEALTH: Final[dict[str, Any]] = {
    "subscriber_id": _SUBSCRIBER_ID,
    "state": {
        "status": "failing",
        "reason": "status 500",
        "failing_since": _AT,
        "failures": 5,
        "resting_until": "2026-11-21T17:00:05.423Z",
    },
    "backlog": {"count": 3, "complete": True, "oldest_at": _AT},
    "dead_letters": 1,
    "recent": {"since": _AT, "attempts": 120, "delivered": 118},
    "last_success_at": _AT,
    "last_failure_at": _AT,
    "last_failure": ATTEMPT,
}
STATISTICS: Final[dict[str, Any]] = {
    "since": "2026-11-21T16:00:00.000Z",
    "until": "2026-11-21T17:00:00.000Z",
    "step_s": 3600,
    "data": [
        {
            "at": "2026-11-21T16:00:00.000Z",
            "events": {"lod": 40, "learnosity": 12},
            "attempts": 53,
            "outcomes": {"delivered": 52, "timeout": 1},
            "delivered": 52,
            "dead": 0,
            "attempt_ms": {"p50": 36.0, "p95": 120.4, "p99": 310.0},
            "lag_ms": {"p50": 58.0, "p95": 211.2, "p99": 15040.0},
        }
    ],
}
_STATE: Final[dict[str, Any]] = {
    "status": "Complete",
    "open": False,
    "sequence": EVENT["data"]["sequence"],
    "fields": {"CompletionStatus": 4, "End": 1795280390, "UserId": "555", "ExamScore": None},
    "seen_at": _AT,
}
ENTITY: Final[dict[str, Any]] = {
    "source": "lod",
    "entity": EVENT["data"]["entity"],
    "state": _STATE,
    "data": [{**EVENT, "cursor": CURSOR, "logged_at": _AT, "deliveries": [DELIVERY_SUMMARY]}],
    "next_cursor": None,
}
ENTITY_EXPLANATION: Final[dict[str, Any]] = {
    "source": "lod",
    "id": EVENT["data"]["entity"]["id"],
    "state": _STATE,
    "next_sequence": EVENT["data"]["sequence"] + 1,
    "last_event": {
        "event_id": _EVENT_ID,
        "type": "lab.completed",
        "sequence": EVENT["data"]["sequence"],
        "logged_at": _AT,
    },
    "last_poll_at": _AT,
    "last_good_poll_at": _AT,
    "next_poll_at": "2026-11-21T17:00:30.123Z",
    "no_event": [{"reason": "unchanged", "detail": "no tracked field has changed since its latest event"}],
}
PREVIEW_WISHES: Final[dict[str, Any]] = {"event_types": ["lab.*"], "filter": {"class_ids": ["cls-7"]}, "last": 500}
PREVIEW: Final[dict[str, Any]] = {
    "examined": 500,
    "since": _AT,
    "matched": 1,
    "matched_by_type": {"lab.completed": 1},
    "refused_by": {"event_types": 301, "class_ids": 198},
    "events": [
        {
            "event_id": _EVENT_ID,
            "type": "lab.completed",
            "source": "lod",
            "entity": EVENT["data"]["entity"],
            "sequence": EVENT["data"]["sequence"],
            "transition": EVENT["data"]["transition"],
            "logged_at": _AT,
        }
    ],
}
