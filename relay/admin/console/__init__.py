"""The console at `/`: one page of plain ES modules that use the same API, with the same token, as everybody else.

The files hold nothing particular to an installation, so they are public; what they show is not. Invariant: the page's
policy lets nothing run, load or be reached but what this origin serves, and nothing is written into it as markup.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from aiohttp import web

from relay.admin.description import POLICY
from relay.admin.problems import not_found
from relay.admin.routes import Route
from relay.admin.static import MEDIA_TYPES, StaticFile

_PAGE: Final = "index.html"
_STRICT: Final = f"{POLICY}; require-trusted-types-for 'script'; trusted-types 'none'"


class Console:
    """The page and its files."""

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        return (
            Route("GET", "/", self._page, "The console", {200: None}, public=True),
            Route("GET", "/console/{file}", self._file, "A file of the console", {200: None}, public=True),
        )

    async def _page(self, request: web.Request) -> web.Response:
        return _files()[_PAGE].answer(request, {"Content-Security-Policy": _STRICT})

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["file"]
        if name not in _files() or name == _PAGE:
            raise not_found("file")
        return _files()[name].answer(request, {})


@cache
def _files() -> Mapping[str, StaticFile]:
    """By name."""
    found = [one for one in resources.files(__name__).iterdir() if Path(one.name).suffix in MEDIA_TYPES]
    return {one.name: StaticFile.of(one.read_bytes(), MEDIA_TYPES[Path(one.name).suffix]) for one in found}
