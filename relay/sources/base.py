"""What the poller needs of an upstream: a family, a rhythm, and pages of raw rows for a window."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from relay.core.model import Family


@dataclass(frozen=True, slots=True)
class Page:
    """Rows that arrived together. Diffing a page is safe; only a complete poll moves the watermark."""

    rows: Sequence[bytes]
    """Each one JSON object, verbatim as the upstream sent it."""
    watermark: datetime | None = None
    """Set on the last page of a complete poll: everything before it has been seen."""
    backfill: bool = False
    """The rows were fetched to catch up with an outage."""
    gap: tuple[datetime, datetime] | None = None
    """A span in which intermediate states may have been missed (from, to)."""


class Source(Protocol):
    """One upstream with its credentials."""

    @property
    def name(self) -> str:
        """The key in the settings; part of every event id."""
        ...

    @property
    def kind(self) -> str:
        """`lod` or `learnosity`."""
        ...

    @property
    def family(self) -> Family:
        """The rules for this source's entities."""
        ...

    @property
    def interval_s(self) -> float:
        """Seconds between the starts of two polls."""
        ...

    def poll(self, watermark: datetime | None) -> AsyncIterator[Page]:
        """Fetch everything since `watermark` (None: first poll), page by page.

        Raises `FetchError` at any point; then nothing may advance.
        """
        ...
