"""The table of routes: what is served, and what a description of the API is made of."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp import web
from pydantic import BaseModel

from relay.admin.pages import NoQuery

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Header:
    """A header of a request that means something to one operation."""

    name: str
    description: str
    schema: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, type[BaseModel] | None]
    """Status → model of the body (None: no body, or one that is not JSON) when all is well."""
    query: type[NoQuery] = field(default=NoQuery)
    headers: Sequence[Header] = ()
    body: type[BaseModel] | None = None
    body_optional: bool = False
    page: bool = False
    """Whether the answer is a page of such bodies."""
    at_end: bool = False
    """Whether a page says if it has come to the end: there `next_cursor` leads on even then, to what is to come."""
    problems: Sequence[int] = ()
    """Statuses of problems beyond those that every such route may have (see `relay.admin.openapi.operations`)."""
    public: bool = False
    """Whether it is answered without a token: it shows nothing but what every copy of the relay holds."""
    reads: bool = False
    """Whether it changes nothing, although it is a POST."""
    media_type: str = "application/json"
    """Of the answers' bodies."""

    @property
    def keyed(self) -> bool:
        """Whether an idempotency key is honoured: it makes no difference to what changes nothing."""
        return self.method == "POST" and not self.reads

    @property
    def documented(self) -> bool:
        """Whether it is part of the API; what is not is a page for people, or a file that such a page is made of."""
        return self.path.startswith("/v1/") or self.path == "/openapi.json"
