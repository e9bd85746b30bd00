"""Reading what a caller sends: bodies within bounds of size and time, query strings without surprises."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ValidationError

from relay.admin.pages import PageQuery
from relay.admin.problems import FieldError, ProblemError, from_validation, invalid, pointer

MAX_BODY_BYTES: Final = 64 * 1024
BODY_S: Final = 10.0
"""Time within which a body must have arrived."""
JSON_TYPES: Final = ("application/json",)
PATCH_TYPES: Final = ("application/merge-patch+json", *JSON_TYPES)

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_body(request: web.Request) -> bytes:
    """The body's bytes, however often they are asked for; raises `ProblemError`, whose fault it is that they end."""
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError:
        raise ProblemError("body-timeout", f"send the whole body within {BODY_S:g} s") from None
    except (web.RequestPayloadError, ConnectionError):
        raise ProblemError(
            "malformed-request", "send the body whole, as its headers announce it", headers={"Connection": "close"}
        ) from None


@web.middleware
async def plain_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse compressed bodies (RFC 9110, section 15.5.16): a few bytes of one can keep a whole core busy."""
    codings = ",".join(request.headers.getall("Content-Encoding", ())).lower()
    if {coding.strip() for coding in codings.split(",")} - {"", "identity"}:
        raise ProblemError(
            "unsupported-media-type",
            "send the body as it is, without Content-Encoding",
            headers={"Accept-Encoding": "identity"},
        )
    return await handler(request)


async def read_object(request: web.Request, media_types: Sequence[str] = JSON_TYPES) -> dict[str, Any]:
    """The body, a JSON object; raises `ProblemError`."""
    if request.content_type not in media_types or (request.charset or "utf-8").lower() != "utf-8":
        raise ProblemError("unsupported-media-type", f"send Content-Type: {media_types[0]}, in UTF-8")
    raw = await read_body(request)
    try:
        body = msgspec.json.decode(raw)
        twice = _twice(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ProblemError("malformed-json", f"send one JSON object (RFC 8259){_where(raw)}") from None
    if not isinstance(body, dict):
        raise invalid(FieldError("", "must be a JSON object"))
    if twice:
        raise invalid(*(FieldError(pointer((one,)), "is given more than once in one object") for one in twice))
    return body


def _where(raw: bytes) -> str:
    """Where it ceases to be JSON, as far as that can be said."""
    if not raw.strip():
        return ": the body is empty"
    try:
        json.loads(raw)
    except json.JSONDecodeError as error:
        return f": line {error.lineno}, column {error.colno} is where it ceases to be JSON"
    except (ValueError, RecursionError):
        pass
    return ""


def _twice(raw: bytes) -> list[str]:
    """Names that one object of the body has more than once: readers differ on which of the values counts."""
    found: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        found.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)

    json.loads(raw, object_pairs_hook=note)
    return sorted(set(found))


def read_query(request: web.Request, model: type[ModelT]) -> ModelT:
    """The query string as `model`; an unknown or a repeated parameter is an error that names it."""
    repeated = sorted(name for name in set(request.query) if len(request.query.getall(name)) > 1)
    if repeated:
        raise invalid(*(FieldError(f"/{name}"[:100], "is given more than once") for name in repeated))
    query = validated(model, dict(request.query))
    if isinstance(query, PageQuery):
        query.belong(request.rel_url.path, request.query)
    return query


async def read_model(
    request: web.Request, model: type[ModelT], *, context: Any = None, optional: bool = False
) -> ModelT:
    """The body as `model`; raises `ProblemError`. `optional`: no body is an empty object."""
    body = {} if optional and not request.body_exists else await read_object(request)
    return validated(model, body, context)


def validated(model: type[ModelT], value: Mapping[str, Any], context: Any = None) -> ModelT:
    """What was sent, as `model`; raises `ProblemError`."""
    try:
        return model.model_validate(value, context=context)
    except ValidationError as error:
        raise from_validation(error, model) from None
