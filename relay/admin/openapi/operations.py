"""One operation of the document for each route of the table.

Which problems a route may have follows from what it is: whether it takes a token, a body, something by its id; what
beyond that can happen, it says itself (`Route.problems`).
"""

import inspect
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

from relay.admin.idempotency import REPLAYED
from relay.admin.openapi.problems import problem_ref
from relay.admin.openapi.schemas import Schemas, Use, parameter_schema
from relay.admin.requests import JSON_TYPES, PATCH_TYPES
from relay.admin.routes import Route

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_ALWAYS: Final = (422, 500)
_WITH_TOKEN: Final = (401, 429, 503)
_VERBS_OF_ONE: Final = {"GET": "get", "DELETE": "cancel"}
_WITH_BODY: Final = (400, 415)
_WITH_KEY: Final = (408, 409, 413)
"""With an idempotency key a body is read, whether or not it is asked for."""
_VERBS: Final = {"GET": "get", "POST": "create", "PATCH": "update", "PUT": "replace", "DELETE": "delete"}


def uses(routes: Iterable[Route]) -> list[Use]:
    """All models that the routes read and write."""
    found: dict[Use, None] = {}
    for route in routes:
        found[route.query, "validation"] = None
        if route.body is not None:
            found[route.body, "validation"] = None
        found |= {(model, "serialization"): None for model in route.answers.values() if model is not None}
    return list(found)


def operation(route: Route, schemas: Schemas) -> dict[str, Any]:
    """The operation of a route."""
    described: dict[str, Any] = {
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [tag(route)],
        "responses": _answers(route, schemas),
    }
    if text := inspect.getdoc(route.handler):
        described["description"] = text
    key = [{"$ref": "#/components/parameters/IdempotencyKey"}] if route.keyed else []
    if parameters := [
        *_path_parameters(route),
        *_query_parameters(route, schemas),
        *_header_parameters(route),
        *key,
    ]:
        described["parameters"] = parameters
    if route.body is not None:
        described["requestBody"] = _body(route, schemas)
    if route.public:
        described["security"] = []
    return described


def operation_id(route: Route) -> str:
    """A name for generated clients, made of method and path: `listSubscribers`, `rotateSubscriberSecret`."""
    parts = [part for part in route.path.split("/") if part and part != "v1"]
    literals = [_words(part) for part in parts if not part.startswith("{")]
    first, *actions = literals
    by_id = any(part.startswith("{") for part in parts)
    noun = _camel(_singular(first) if by_id or route.method != "GET" else first)
    if actions and parts[-1].startswith("{"):  # one of a collection that belongs to something
        return _VERBS_OF_ONE[route.method] + noun + "".join(_camel(_singular(words)) for words in actions)
    if route.method == "GET":
        return ("list" if route.page else "get") + noun + "".join(map(_camel, actions))
    if not actions:
        return _VERBS[route.method] + noun
    verb, *rest = actions[-1]
    return verb + (noun if by_id else _camel(first)) + _camel(rest)


def tag(route: Route) -> str:
    """What an operation is listed under."""
    parts = [part for part in route.path.split("/") if part]
    return parts[1] if parts[0] == "v1" else "description"


def problem_statuses(route: Route) -> Sequence[int]:
    """Statuses of the problems that a route may answer with."""
    found = {*_ALWAYS, *route.problems}
    found.update(() if route.public else _WITH_TOKEN)
    found.update(() if route.body is None else _WITH_BODY)
    found.update((404,) if "{" in route.path else ())
    found.update(_WITH_KEY if route.keyed else (408, 413) if route.body else ())
    return sorted(found)


def _words(part: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", part)


def _singular(words: list[str]) -> list[str]:
    *rest, last = words
    return [*rest, last.removesuffix("ies") + "y" if last.endswith("ies") else last.removesuffix("s")]


def _camel(words: Iterable[str]) -> str:
    return "".join(word.capitalize() for word in words)


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    found = []
    for match in _PARAMETER.finditer(route.path):
        collection = next(
            part for part in reversed(route.path[: match.start()].split("/")) if part and not part.startswith("{")
        )
        noun = " ".join(_singular(_words(collection)))
        found.append(
            {
                "name": match[1],
                "in": "path",
                "required": True,
                "description": f"{match[1].capitalize().replace('_', ' ')} of the {noun}.",
                "schema": {"type": "string", "minLength": 1},
            }
        )
    return found


def _query_parameters(route: Route, schemas: Schemas) -> list[dict[str, Any]]:
    model = schemas.resolved(schemas.of(route.query, "validation"))
    return [
        {
            "name": name,
            "in": "query",
            "required": name in model.get("required", ()),
            **({"description": schema["description"]} if "description" in schema else {}),
            "schema": parameter_schema(schema),
        }
        for name, schema in model.get("properties", {}).items()
    ]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "in": "header", "required": False, "description": one.description, "schema": one.schema}
        for one in route.headers
    ]


def _body(route: Route, schemas: Schemas) -> dict[str, Any]:
    assert route.body is not None  # noqa: S101 - for the type checker: the caller has looked
    patch = route.method == "PATCH"
    schema = schemas.merge_patch(route.body) if patch else schemas.of(route.body, "validation")
    media_types = PATCH_TYPES if patch else JSON_TYPES
    return {
        "required": not route.body_optional,
        "content": {media_type: {"schema": schema} for media_type in media_types},
    }


def _answers(route: Route, schemas: Schemas) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, model in route.answers.items():
        headers = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
        if status == HTTPStatus.CREATED:
            headers["Location"] = {"$ref": "#/components/headers/Location"}
        if route.keyed:
            headers[REPLAYED] = {"$ref": "#/components/headers/Replayed"}
        answer: dict[str, Any] = {"description": HTTPStatus(status).phrase, "headers": headers}
        if model is not None:
            schema = schemas.page(model, at_end=route.at_end) if route.page else schemas.of(model, "serialization")
            answer["content"] = {route.media_type: {"schema": schema}}
        elif route.media_type not in JSON_TYPES:
            answer["content"] = {route.media_type: {"schema": {"type": "string"}}}
        answers[str(status)] = answer
    return answers | {str(status): problem_ref(status) for status in problem_statuses(route)}
