"""Files that are served as they are: with a tag, so that a browser that has one is told so instead of sent it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

MEDIA_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
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
