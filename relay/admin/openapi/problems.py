"""The problems as the document has them: one response per kind."""

from collections.abc import Mapping
from typing import Any, Final

from relay.admin.problems import KINDS, MEDIA_TYPE

_HEADERS: Final[Mapping[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"description": "How to send a token.", "schema": {"type": "string"}, "required": True}},
    405: {"Allow": {"description": "The methods that are allowed.", "schema": {"type": "string"}, "required": True}},
    409: {"Retry-After": {"$ref": "#/components/headers/RetryAfterIfUnderWay"}},
    429: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
    503: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
}
_EXAMPLE_ERRORS: Final = [{"pointer": "/url", "detail": "is required"}]

PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "What is wrong, where, and how to mend it (RFC 9457). It never repeats what was sent.",
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "A stable identifier of the kind of problem.",
        },
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "For people: what to do."},
        "errors": {
            "type": "array",
            "description": "For bad input: each fault.",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {
                        "type": "string",
                        "description": "JSON Pointer into the body, or `/NAME` of a query parameter or a header.",
                    },
                    "detail": {"type": "string"},
                },
                "required": ["pointer", "detail"],
            },
        },
    },
    "required": ["type", "title", "status", "detail"],
    "examples": [
        {
            "type": "/problems/invalid-input",
            "title": KINDS["invalid-input"][1],
            "status": 422,
            "detail": "mend /url and send it again",
            "errors": _EXAMPLE_ERRORS,
        }
    ],
}


def problem_ref(status: int) -> dict[str, str]:
    """A reference to the response for a status."""
    return {"$ref": f"#/components/responses/{_name(_kinds_of(status)[-1])}"}


def problem_responses() -> dict[str, Any]:
    """The responses by name: one per status, named after the last of its kinds."""
    last = {status: (kind, title) for kind, (status, title) in KINDS.items()}
    return {_name(kind): _response(kind, status, title) for status, (kind, title) in last.items()}


def _kinds_of(status: int) -> list[str]:
    return [kind for kind, (of, _) in KINDS.items() if of == status]


def _name(kind: str) -> str:
    return "".join(word.capitalize() for word in kind.split("-"))


def _response(kind: str, status: int, title: str) -> dict[str, Any]:
    said = {"type": {"enum": [f"/problems/{one}" for one in _kinds_of(status)]}, "status": {"const": status}}
    example: dict[str, Any] = {"type": f"/problems/{kind}", "title": title, "status": status, "detail": "…"}
    if kind == "invalid-input":
        example |= {"detail": "mend /url and send it again", "errors": _EXAMPLE_ERRORS}
        said["errors"] = {"minItems": 1}
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"properties": said}]}
    return {
        "description": f"{title}.",
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}, **_HEADERS.get(status, {})},
        "content": {MEDIA_TYPE: {"schema": schema, "example": example}},
    }
