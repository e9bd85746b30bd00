"""The console at `/`: one page of plain ES modules that use the same API, with the same token, as everybody else.

The files hold nothing particular to an installation, so they are public; what they show is not. Invariant: the page's
policy lets nothing run, load or be reached but what this origin serves, and nothing is written into it as markup.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from relay.admin.routes import Route
from relay.admin.static import MEDIA_TYPES, POLICY, Site

_STRICT: Final = f"{POLICY}; require-trusted-types-for 'script'; trusted-types 'none'"


class Console:
    """The page and its files."""

    def __init__(self) -> None:
        self._site = Site(_read, _STRICT)

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        page, file = self._site.page, self._site.file
        return (
            Route("GET", "/", page, "The console", {200: None}, public=True),
            Route("GET", "/console/{file}", file, "A file of the console", {200: None}, public=True),
        )


def _read() -> Mapping[str, bytes]:
    found = [one for one in resources.files(__name__).iterdir() if Path(one.name).suffix in MEDIA_TYPES]
    return {one.name: one.read_bytes() for one in found}
