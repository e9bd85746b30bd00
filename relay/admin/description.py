"""GET /openapi.json, and the page that shows it: /docs.

Both are public: they hold nothing but what every copy of the relay does. The page works without the internet: Swagger
UI's files come from an installed package, the rest from here, and the page's policy lets it load from and talk to this
origin only.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web
from pydantic import ConfigDict

from relay.admin.fields import Described, example
from relay.admin.openapi import document
from relay.admin.routes import Route
from relay.admin.static import Site, StaticFile

_OURS: Final = ("index.html", "init.js")
_SWAGGER_UI: Final = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")


class OpenApiOut(Described):
    """An OpenAPI 3.1 document, with the webhooks that the relay sends."""

    model_config = ConfigDict(
        json_schema_extra=example({"openapi": "3.1.0", "info": {}, "paths": {}, "webhooks": {}, "components": {}})
    )

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    webhooks: dict[str, Any]
    components: dict[str, Any]


class Description:
    """Describes `routes` and itself."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._site = Site(_read)
        self._described = (*routes, *self.routes())
        self._document: StaticFile | None = None

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        answers = {200: OpenApiOut, 304: None}
        return (
            Route("GET", "/openapi.json", self._show, "Show this description", answers, public=True),
            Route("GET", "/docs", self._site.page, "The page that shows it", {200: None}, public=True),
            Route("GET", "/docs/{file}", self._site.file, "A file of that page", {200: None}, public=True),
        )

    async def _show(self, request: web.Request) -> web.Response:
        if self._document is None:
            self._document = StaticFile.of(msgspec.json.encode(document(self._described)), "application/json")
        return self._document.answer(request, {})


def _read() -> Mapping[str, bytes]:
    """By name. Swagger UI's package is not imported: its code would bring a template engine along."""
    package = find_spec("swagger_ui")
    assert package is not None  # noqa: S101 - it is among the dependencies
    assert package.origin is not None  # noqa: S101
    theirs = Path(package.origin).parent / "static"
    ours = resources.files("relay.admin").joinpath("docs")
    contents = {name: ours.joinpath(name).read_bytes() for name in _OURS}
    return contents | {name: theirs.joinpath(name).read_bytes() for name in _SWAGGER_UI}
