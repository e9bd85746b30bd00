"""GET /openapi.json, and the page that shows it: /docs.

Both are public: they hold nothing but what every copy of the relay does. The page works without the internet: Swagger
UI's files come from an installed package, the rest from here, and the page's policy lets it load from and talk to this
origin only.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web
from pydantic import ConfigDict

from relay.admin.fields import Described, example
from relay.admin.openapi import document
from relay.admin.problems import not_found
from relay.admin.routes import Route
from relay.admin.static import MEDIA_TYPES, StaticFile

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_OURS: Final = ("index.html", "init.js")
_SWAGGER_UI: Final = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
_PAGE: Final = "index.html"


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
        self._described = (*routes, *self.routes())
        self._document: StaticFile | None = None

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        answers = {200: OpenApiOut, 304: None}
        return (
            Route("GET", "/openapi.json", self._show, "Show this description", answers, public=True),
            Route("GET", "/docs", self._page, "The page that shows it", {200: None}, public=True),
            Route("GET", "/docs/{file}", self._file, "A file of that page", {200: None}, public=True),
        )

    async def _show(self, request: web.Request) -> web.Response:
        if self._document is None:
            self._document = StaticFile.of(msgspec.json.encode(document(self._described)), "application/json")
        return self._document.answer(request, {})

    async def _page(self, request: web.Request) -> web.Response:
        return _files()[_PAGE].answer(request, {"Content-Security-Policy": POLICY})

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["file"]
        if name not in _files() or name == _PAGE:
            raise not_found("file")
        return _files()[name].answer(request, {})


@cache
def _files() -> Mapping[str, StaticFile]:
    """By name. Swagger UI's package is not imported: its code would bring a template engine along."""
    package = find_spec("swagger_ui")
    assert package is not None  # noqa: S101 - it is among the dependencies
    assert package.origin is not None  # noqa: S101
    theirs = Path(package.origin).parent / "static"
    ours = resources.files("relay.admin").joinpath("docs")
    contents = {name: ours.joinpath(name).read_bytes() for name in _OURS}
    contents |= {name: theirs.joinpath(name).read_bytes() for name in _SWAGGER_UI}
    return {name: StaticFile.of(content, MEDIA_TYPES[Path(name).suffix]) for name, content in contents.items()}
