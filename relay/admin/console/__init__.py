"""The console at `/`: one page of plain ES modules that use the same API, with the same token, as everybody else.

The files hold nothing particular to an installation, so they are public; what they show is not. Invariant: the page's
policy lets nothing run, load or be reached but what this origin serves, and nothing is written into it as markup.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from aiohttp import web

from relay.admin.problems import not_found
from relay.admin.routes import Route

TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PAGE: Final = "index.html"
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS: Final = {
    "Cache-Control": "no-cache",  # asked for each time, by its ETag: after an upgrade no tab runs two versions
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the console, as it is served."""

    content: bytes
    media_type: str
    tag: str


class Console:
    """The page and its files."""

    def __init__(self) -> None:
        self._files = _read()

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        return (
            Route("GET", "/", self._page, "The console", {200: None}, public=True),
            Route("GET", "/console/{file}", self._file, "A file of the console", {200: None}, public=True),
        )

    async def _page(self, request: web.Request) -> web.Response:
        return _answer(request, self._files[_PAGE])

    async def _file(self, request: web.Request) -> web.Response:
        file = self._files.get(request.match_info["file"])
        if file is None:
            raise not_found("file of the console")
        return _answer(request, file)


def _read() -> Mapping[str, _File]:
    found = {}
    for path in resources.files(__name__).iterdir():
        media_type = TYPES.get(path.name[path.name.rfind(".") :])
        if media_type is not None:
            content = path.read_bytes()
            found[path.name] = _File(content, media_type, hashlib.sha256(content).hexdigest()[:32])
    return found


def _answer(request: web.Request, file: _File) -> web.Response:
    known = request.if_none_match or ()
    if any(one.value in (file.tag, "*") for one in known):
        response = web.Response(status=304, headers=_HEADERS)
    else:
        response = web.Response(body=file.content, content_type=file.media_type, charset="utf-8", headers=_HEADERS)
    response.etag = file.tag
    return response
