"""The table of routes: what is served, and what a description of the API is made of."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from pydantic import BaseModel

from relay.admin.pages import NoQuery

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, type[BaseModel] | None]
    """Status → model of the body (None: no body) when all is well."""
    query: type[NoQuery] = field(default=NoQuery)
    body: type[BaseModel] | None = None
    public: bool = False
    """Whether it is answered without a token: it shows nothing but what every copy of the relay holds."""
