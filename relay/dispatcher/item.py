"""A delivery in memory."""

from dataclasses import dataclass

from relay.core.log import Entry, Waiting


@dataclass(slots=True, eq=False)
class Item:
    """A delivery to be attempted."""

    entry: Entry
    attempt_no: int
    retry: str | None = None
    """Its name among the waiting retries, if it stands there."""
    holds_cursor: bool = True
    """Whether the lane's position waits for it."""
    probe: bool = False
    """Whether it tries out a subscriber that has been failing."""
    finished: bool = False

    def waiting(self, subscriber_id: str) -> Waiting:
        """What it is among the waiting retries."""
        return Waiting(subscriber_id, self.entry.place, self.attempt_no)
