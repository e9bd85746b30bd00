"""Errors as RFC 9457 problems: what is wrong, where, and how to mend it. None ever repeats what was sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web
from pydantic import ValidationError

from relay.core.errors import RelayError

MEDIA_TYPE: Final = "application/problem+json"
MAX_ERRORS: Final = 20
_MAX_POINTER: Final = 200

KINDS: Final[Mapping[str, tuple[int, str]]] = {
    "malformed-request": (400, "The request is not HTTP as it should be"),
    "malformed-json": (400, "The body is not JSON"),
    "unauthorized": (401, "A valid token is required"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "body-timeout": (408, "The body did not arrive in time"),
    "conflict": (409, "The request does not fit the current state"),
    "cursor-expired": (410, "The feed cannot be continued from there"),
    "erased": (410, "It was erased"),
    "body-too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body is of a type that is not read here"),
    "expectation-failed": (417, "The expectation cannot be met"),
    "invalid-input": (422, "The input is not valid"),
    "too-many-refused-tokens": (429, "Too many refused tokens"),
    "head-too-large": (431, "The head of the request is too large"),
    "internal": (500, "The relay has made a mistake"),
    "stopping": (503, "The relay is stopping"),
    "too-many-streams": (503, "Too many streams are open"),
    "store-unavailable": (503, "The store cannot be reached"),
}
"""Kind → status and title. The kind is the end of `type`, a stable identifier: `/problems/KIND`."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of the input."""

    pointer: str
    """JSON Pointer into the body, or `/NAME` for a query parameter or a header."""
    detail: str


class ProblemError(RelayError):
    """Ends a request; the error middleware makes the answer of it."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.errors = errors[:MAX_ERRORS]
        self.headers = headers or {}

    @property
    def status(self) -> int:
        """Of the answer."""
        return KINDS[self.kind][0]

    def response(self) -> web.Response:
        """The answer."""
        status, title = KINDS[self.kind]
        return problem_response(self.kind, status, title, str(self), self.errors, self.headers)


def problem_response(
    kind: str,
    status: int,
    title: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A problem document."""
    body: dict[str, Any] = {"type": f"/problems/{kind}", "title": title, "status": status, "detail": detail}
    if errors:
        body["errors"] = [{"pointer": one.pointer, "detail": one.detail} for one in errors]
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=MEDIA_TYPE, headers=headers)


def invalid(*errors: FieldError) -> ProblemError:
    """Input that was understood but cannot be used."""
    where = ", ".join(one.pointer or "the body" for one in errors[:MAX_ERRORS])
    return ProblemError("invalid-input", f"mend {where} and send it again", errors=errors)


def not_found(what: str) -> ProblemError:
    """Something that was asked for by its id."""
    return ProblemError("not-found", f"there is no such {what}: it never existed, was deleted, or is kept no longer")


def erased() -> ProblemError:
    """An event of a learner who is forgotten."""
    return ProblemError("erased", "what the event said was erased together with its learner; nothing can bring it back")


def from_validation(error: ValidationError, known: Sequence[str] = ()) -> ProblemError:
    """What pydantic found, without what it found it in; `known` names what may stand where a field is unknown."""
    found = [
        FieldError(pointer(item["loc"]), _detail(item["type"], item["msg"], known))
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return invalid(*found)


def pointer(location: Sequence[str | int]) -> str:
    """RFC 6901; pydantic's mark for "the key itself" is left out."""
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in location if part != "[key]"]
    return "".join(f"/{part}" for part in parts)[:_MAX_POINTER]


def _detail(kind: str, message: str, known: Sequence[str]) -> str:
    if kind == "extra_forbidden":
        return "there is no such field" + (f" (there are: {', '.join(known)})" if known else "")
    if kind == "missing":
        return "is required"
    return message.removeprefix("Value error, ").removeprefix("Input ")
