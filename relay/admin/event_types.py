"""The catalogue of event types."""

from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web
from pydantic import ConfigDict, Field

from relay.admin.examples import EVENT_TYPE
from relay.admin.fields import Described, example
from relay.admin.pages import PageQuery, json_response, page_of, page_response
from relay.admin.problems import not_found
from relay.admin.requests import read_query
from relay.admin.routes import Route
from relay.core.catalogue import EventType, catalogue


class EventTypeOut(Described):
    """One type of event."""

    model_config = ConfigDict(json_schema_extra=example(EVENT_TYPE))

    type: str
    description: str
    schema_: dict[str, Any] = Field(alias="schema")
    """JSON Schema (2020-12) of the payload in the `standard` format."""
    example: dict[str, Any]
    """A payload, exactly as it would be sent."""


class EventTypes:
    """The routes below /v1/event-types."""

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        answers = {200: EventTypeOut}
        return (
            Route("GET", "/v1/event-types", self._list, "List the event types", answers, query=PageQuery, page=True),
            Route("GET", "/v1/event-types/{type}", self._get, "Show an event type", answers),
        )

    async def _list(self, request: web.Request) -> web.Response:
        query = read_query(request, PageQuery)
        page, following = page_of(catalogue().values(), query, lambda one: one.name)
        return page_response([_shown(one) for one in page], following)

    async def _get(self, request: web.Request) -> web.Response:
        found = catalogue().get(request.match_info["type"])
        if found is None:
            raise not_found("event type")
        return json_response(_shown(found))


def _shown(one: EventType) -> dict[str, Any]:
    return {
        "type": one.name,
        "description": one.description,
        "schema": one.schema,
        "example": msgspec.Raw(one.example),
    }
