"""Errors as RFC 9457 problems: what is wrong, where, and how to mend it. None ever repeats what was sent."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from relay.core.errors import RelayError
from relay.core.wording import among, plainly

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


def not_found(what: str, hint: str = "") -> ProblemError:
    """Something that was asked for by its id; the hint begins with what it is to be set off with."""
    detail = f"there is no such {what}: it never existed, was deleted, or is kept no longer{hint}"
    return ProblemError("not-found", detail)


def no_event() -> ProblemError:
    """An event that was asked for by its id."""
    return not_found("event", "; tests (relay.test) are sent, and not kept")


def no_source(known: Iterable[str]) -> ProblemError:
    """A source that is not configured."""
    there = ", ".join(sorted(known)) or "none"
    return ProblemError("not-found", f"no source of this name is configured; there are: {there}")


def erased() -> ProblemError:
    """An event of a learner who is forgotten."""
    return ProblemError("erased", "what the event said was erased together with its learner; nothing can bring it back")


def from_validation(error: ValidationError, model: type[BaseModel]) -> ProblemError:
    """What pydantic found in what should have been `model`, without what it found it in."""
    found = [
        FieldError(pointer(item["loc"]), _detail(item, model))
        for item in error.errors(include_url=False, include_input=False)
    ]
    return invalid(*found)


def names(model: type[BaseModel]) -> list[str]:
    """The names of a model's fields as callers write them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def pointer(location: Sequence[str | int]) -> str:
    """RFC 6901; pydantic's mark for "the key itself" is left out."""
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in location if part != "[key]"]
    return "".join(f"/{part}" for part in parts)[:_MAX_POINTER]


def _detail(fault: ErrorDetails, model: type[BaseModel]) -> str:
    if fault["type"] != "extra_forbidden":
        return plainly(fault["type"], fault["msg"], fault.get("ctx"))
    where, name = fault["loc"][:-1], str(fault["loc"][-1])
    inside = _inside(model, where)
    return "there is no such field" if inside is None else f"there is no such field ({among(name, names(inside))})"


def _inside(model: type[BaseModel], where: Sequence[str | int]) -> type[BaseModel] | None:
    """The model of an object within a model's object, if it is one."""
    for part in where:
        field = next((one for name, one in model.model_fields.items() if part in (name, one.alias)), None)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return None
        model = field.annotation
    return model
