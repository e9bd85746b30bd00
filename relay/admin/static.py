"""Pages and their files, served as they are: with a tag, so that a browser that has one is told so instead of sent it.

They are public, so they hold nothing but what every copy of the relay does. Invariant: a page's policy lets nothing
run, load or be reached but what this origin serves.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from aiohttp import web

from relay.admin.problems import not_found

MEDIA_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE: Final = "index.html"
_HEADERS: Final = {
    "Cache-Control": "no-cache",  # kept, but asked for each time: after an upgrade no page runs two versions
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file's content, its type and its tag."""

    content: bytes
    media_type: str
    tag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> "StaticFile":
        """The tag is made of the content."""
        return cls(content, media_type, hashlib.sha256(content).hexdigest()[:32])

    def answer(self, request: web.Request, headers: Mapping[str, str]) -> web.Response:
        """The file, or 304 to whoever has it."""
        if any(one.value in (self.tag, "*") for one in request.if_none_match or ()):
            response = web.Response(status=304, headers={**_HEADERS, **headers})
        else:
            response = web.Response(body=self.content, content_type=self.media_type, headers={**_HEADERS, **headers})
            if self.media_type.startswith("text/"):
                response.charset = "utf-8"
        response.etag = self.tag
        return response


class Site:
    """A page and the files that it is made of, read when they are first asked for."""

    def __init__(self, read: Callable[[], Mapping[str, bytes]], policy: str = POLICY) -> None:
        self._read = read
        self._policy = policy

    @cached_property
    def _files(self) -> Mapping[str, StaticFile]:
        return {name: StaticFile.of(content, MEDIA_TYPES[Path(name).suffix]) for name, content in self._read().items()}

    async def page(self, request: web.Request) -> web.Response:
        """The page itself."""
        return self._files[_PAGE].answer(request, {"Content-Security-Policy": self._policy})

    async def file(self, request: web.Request) -> web.Response:
        """What the path names."""
        name = request.match_info["file"]
        if name not in self._files or name == _PAGE:
            raise not_found("file")
        return self._files[name].answer(request, {})
