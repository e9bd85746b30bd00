"""The one place where a request's failure becomes an answer. Nothing internal leaves through it.

What fails before a request has come as far as the middlewares is brought here by the server (`relay.admin.server`).
"""

import re
import secrets
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from relay.admin.problems import ProblemError, problem_response
from relay.admin.requests import MAX_BODY_BYTES
from relay.admin.security import REQUEST_ID
from relay.store.errors import STORE_ERRORS

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
PATHS: Final = web.AppKey("paths", str)
"""Which paths an application has, for whoever has asked for another."""
_UNREAD: Final = frozenset({401, 408, 413, 415, 429})
"""Answers after which the rest of the body is not waited for."""

log = structlog.get_logger()


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id and answer whatever it ends with."""
    _name(request)
    response = await _answer(request, handler)
    if response.status in _UNREAD and request.can_read_body:
        response.force_close()
    stamp(request, response)
    return response


def answer_outside(request: web.BaseRequest, error: ProblemError | web.HTTPException) -> web.Response:
    """The answer to a request that has not come as far as the middlewares."""
    _name(request)
    response = error.response() if isinstance(error, ProblemError) else _from_http(request, error)
    stamp(request, response)
    response.force_close()
    return response


def _name(request: web.BaseRequest) -> None:
    given = request.headers.get("X-Request-Id", "")
    request[REQUEST_ID] = given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"


def stamp(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """What every answer says; an answer that is sent while it is made needs it before."""
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    response.headers["Server"] = "relay"  # rather than the library with its version
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ProblemError as problem:
        return problem.response()
    except web.HTTPException as error:
        return _from_http(request, error)
    except STORE_ERRORS as error:
        log.warning("admin.store_error", error=type(error).__name__, request_id=request[REQUEST_ID])
        retry = {"Retry-After": "1"}
        return ProblemError("store-unavailable", "nothing is lost; try again shortly", headers=retry).response()
    except Exception:
        # The log writes tracebacks without local variables.
        log.exception(
            "admin.failed",
            method=request.method,
            route=_route(request),
            request_id=request[REQUEST_ID],
        )
        return ProblemError("internal", "the relay's log tells more under this answer's X-Request-Id").response()


def _route(request: web.Request) -> str | None:
    """The route's pattern: the path itself may hold somebody's id."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else None


def _from_http(request: web.BaseRequest, error: web.HTTPException) -> web.Response:
    """What aiohttp itself has raised."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allow = {"Allow": ", ".join(sorted(error.allowed_methods))}
        if request.method == "OPTIONS":
            return web.Response(status=204, headers=allow)
        return ProblemError("method-not-allowed", f"use {allow['Allow']}", headers=allow).response()
    if isinstance(error, web.HTTPNotFound) and isinstance(request, web.Request):
        slash = "paths end without a slash; " if request.path.endswith("/") else ""
        return ProblemError("not-found", f"no route has this path; {slash}{request.app[PATHS]}").response()
    if isinstance(error, web.HTTPExpectationFailed):
        return ProblemError("expectation-failed", "expect 100-continue, or nothing").response()
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return ProblemError("body-too-large", f"send at most {MAX_BODY_BYTES} bytes").response()
    return problem_response(f"http-{error.status}", error.status, error.reason, "the request cannot be served")
