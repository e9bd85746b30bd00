"""The whole document."""

from collections.abc import Sequence
from typing import Any, Final

from relay import __version__
from relay.admin.idempotency import HEADER, KEY_PATTERN
from relay.admin.openapi.operations import operation, tag, uses
from relay.admin.openapi.problems import PROBLEM, problem_responses
from relay.admin.openapi.schemas import Schemas
from relay.admin.openapi.webhooks import webhook_parameters, webhooks
from relay.admin.routes import Route

_ABOUT: Final = """\
The relay polls Lab on Demand and Learnosity, detects state transitions, and sends each as a signed webhook to whoever
subscribed. Here subscribers are managed, deliveries looked at and made again, and events read as a feed.

**Tokens.** Every request carries `Authorization: Bearer TOKEN`, one of `RELAY_ADMIN_TOKENS`. A token may do everything,
so there is no 403. Whoever keeps sending a token that is refused is asked to wait (429 with `Retry-After`, instead of
401); a valid token is never kept waiting by it.

**Lists** come in pages of `limit` items with a `next_cursor`. A cursor is a place in the list, not a count: it stays
valid while the data changes. It belongs to the list that gave it out: send it with the same path and the same filters
(`limit` may change); any other list answers 422, rather than pass over items in silence. Only those of the feed
(`/v1/events`) are places in the feed, whatever the filters. A page may be short, or empty, and still not be the last:
only a null `next_cursor` says that.

**Problems** are `application/problem+json` (RFC 9457). For bad input `errors` says where each fault is and how to mend
it; none repeats what was sent. An unknown field, or an unknown or repeated query parameter, is refused, not ignored. A
method that a path does not have is answered with 405 and `Allow`. Whatever the operation: a request that is not HTTP as
it should be is 400, a compressed body 415 (send it without `Content-Encoding`), an `Expect` other than `100-continue`
417, and a head of more than 16 KiB 431.

**Repeating.** A POST with an `Idempotency-Key` is carried out once: whoever repeats it within a day, with the same
token, key and body, gets the first answer again, with `Idempotency-Replayed: true`. While it is under way that is 409
with `Retry-After`; the same key with another body is 422. Refused requests (4xx) leave their key free; after a 5xx, or
no answer at all, repeat with the same key. Where the answer is not kept (it was too large, or a learner was erased
since), the repeat gets a 409 that says so. A POST that only reads needs no key, and looks at none.

**Times** are RFC 3339 in UTC with `Z`. Every answer carries `X-Request-Id`, which the relay's log has too; send one of
your own (up to 64 letters, digits, `.`, `_`, `-`) and it is kept.
"""
_KEY: Final = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "The same for every try of one request, new for every other.",
    "schema": {"type": "string", "pattern": f"^{KEY_PATTERN}$"},
}
_HEADERS: Final = {
    "Replayed": {
        "description": "The answer is that of an earlier request with this `Idempotency-Key`.",
        "schema": {"type": "string", "const": "true"},
    },
    "RetryAfterIfUnderWay": {
        "description": "Seconds after which to try again, if a request with this `Idempotency-Key` is under way.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "RequestId": {"description": "The request's name in the relay's log.", "schema": {"type": "string"}},
    "Location": {
        "description": "Path of what was made.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "RetryAfter": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
}


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The description of these routes, and of the webhooks; routes that are no part of the API are left out."""
    shown = [route for route in routes if route.documented]
    schemas = Schemas(uses(shown))
    paths: dict[str, dict[str, Any]] = {}
    for route in shown:
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route, schemas)
    tags = dict.fromkeys([*map(tag, shown), "webhooks"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Webhook relay for learning systems",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The relay that this document comes from."}],
        "security": [{"token": []}],
        "tags": [{"name": name} for name in tags],
        "paths": paths,
        "webhooks": webhooks(),
        "components": {
            "schemas": {"Problem": PROBLEM, **_used(schemas, paths)},
            "responses": problem_responses(),
            "parameters": {"IdempotencyKey": _KEY, **webhook_parameters()},
            "headers": _HEADERS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "One of `RELAY_ADMIN_TOKENS`."}
            },
        },
    }


def _used(schemas: Schemas, paths: dict[str, Any]) -> dict[str, Any]:
    """The components that operations refer to, directly or not: what only parameters were made of is left out."""
    found: dict[str, Any] = {}
    ahead = list(_references(paths))
    while ahead:
        name = ahead.pop()
        if name in schemas.components and name not in found:
            found[name] = schemas.components[name]
            ahead += _references(found[name])
    return dict(sorted(found.items()))


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for one in node for name in _references(one)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"].rpartition("/")[2]] if isinstance(node.get("$ref"), str) else []
    return own + [name for one in node.values() for name in _references(one)]
