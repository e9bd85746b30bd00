"""What the relay sends, as the document's `webhooks`: one per event type, made of the catalogue.

Its examples are what the rules make of sample rows, in both formats, so they cannot drift from what is sent.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from relay.core.catalogue import EventType, catalogue
from relay.core.envelope import CLOUDEVENTS_TYPE, STANDARD_TYPE, Receiver, body_for
from relay.core.log import START, Entry
from relay.core.subscriber import Subscriber

_HEADERS: Final = (
    ("webhook-id", "The event's id: the same on every attempt, so remember which you have processed.", "^evt_"),
    (
        "webhook-timestamp",
        "When this attempt was made, in Unix seconds: refuse what is older than five minutes.",
        "^\\d+$",
    ),
    (
        "webhook-signature",
        (
            "Signatures over `id.timestamp.body`, separated by spaces: `v1,` and base64 of HMAC-SHA256, or `v1a,` and "
            "base64 of ed25519. Several while a rotation overlaps; one that fits is enough."
        ),
        "^v1a?,",
    ),
    ("user-agent", "`relay/` and its version.", "^relay/"),
)
_RESPONSES: Final = {
    "2XX": {"description": "Taken. Nothing else is a success; a redirect is not followed."},
    "410": {"description": "Gone: the subscriber is disabled at once."},
    "429": {"description": "Too many: `Retry-After` is honoured, up to a day; so it is with 503."},
    "default": {"description": "A failure: tried again with the same `webhook-id`, as the retry schedule says."},
}
_EXAMPLE_SUBSCRIBER: Final = Subscriber(id="sub_0", url="https://lms.example.org/hooks", format="cloudevents")


def webhook_parameters() -> dict[str, Any]:
    """The headers, as components by name."""
    return {
        _component(name): {
            "name": name,
            "in": "header",
            "required": True,
            "description": description,
            "schema": {"type": "string", "pattern": pattern},
        }
        for name, description, pattern in _HEADERS
    }


def webhooks() -> dict[str, Any]:
    """Event type → what is posted."""
    return {name: {"post": _operation(one)} for name, one in catalogue().items()}


def _operation(one: EventType) -> dict[str, Any]:
    schema = {key: value for key, value in one.schema.items() if key != "$schema"}
    cloudevent = json.loads(body_for(Receiver(_EXAMPLE_SUBSCRIBER, ()), _entry(one)))
    return {
        "operationId": one.name,
        "summary": one.description,
        "tags": ["webhooks"],
        "security": [],
        "parameters": [{"$ref": f"#/components/parameters/{_component(name)}"} for name, _, _ in _HEADERS],
        "requestBody": {
            "required": True,
            "content": {
                STANDARD_TYPE: {"schema": schema, "example": json.loads(one.example)},
                CLOUDEVENTS_TYPE: {"schema": _cloudevent(schema), "example": cloudevent},
            },
        },
        "responses": _RESPONSES,
    }


def _entry(one: EventType) -> Entry:
    data = json.loads(one.example)["data"]
    return Entry(START, data["event_id"], one.name, data["source"], data["entity"]["id"], one.example, b"")


def _cloudevent(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = {
        "specversion": {"const": "1.0"},
        "id": {"type": "string"},
        "source": {"type": "string", "format": "uri-reference"},
        "type": schema["properties"]["type"],
        "subject": {"type": "string", "description": "The entity's id."},
        "time": schema["properties"]["timestamp"],
        "datacontenttype": {"const": "application/json"},
        "data": {"type": "object", "description": "As in the `standard` format."},
    }
    return {
        "title": schema["title"],
        "description": "CloudEvents 1.0, structured mode.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


def _component(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))
