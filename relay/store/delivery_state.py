"""Where a delivery stands, as far as the store knows, and the order to make it once more."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from relay.core.log import BEHIND_MS, Place, Waiting, due_at


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """Where one delivery stands, as far as the store knows."""

    cursor: Place
    waiting_attempt_no: int | None
    waiting_until_ms: int | None
    """None also while it waits for its subscriber, or for an earlier event of its entity."""
    dead_at_ms: int | None
    asked_ms: int | None = None
    """When it was last asked to begin again at attempt 1 (redelivery): the attempts before that are history."""
    behind: bool = False
    """It waits for an earlier event of its entity."""


@dataclass(frozen=True, slots=True)
class Order:
    """A delivery that is to be made again, as it stood when that was decided."""

    place: Place
    kind: Literal["waiting", "dead", "settled"]
    """Its next attempt is waited for; it is a dead letter; or all is done, and it is to begin again."""
    number: int = 0
    """`waiting`: the number of that attempt; `settled`: its `asked_ms`, 0 if there is none."""


class Redelivered(IntEnum):
    """What became of an order."""

    DONE = 1
    DUE_ALREADY = 2
    IN_TURN = 3
    """It waits for an earlier event of its entity, and goes out once that is settled: never ahead of it."""
    CHANGED = 0
    """It stands otherwise than the order says: read again."""
    TRIMMED = -1
    """Its event has outlived its retention."""
    ORPHANED = -2
    """Its subscriber was deleted."""


def state_of(
    cursors: Sequence[bytes | None],
    scores: Sequence[float | None],
    dead_at_ms: float | None,
    asked_ms: float | None,
) -> DeliveryState:
    """Read the store's answers: own and shared cursor, due times by attempt number from 1, time of death, of asking."""
    own, shared = cursors
    waiting = [(no, int(due)) for no, due in enumerate(scores, start=1) if due is not None]
    attempt_no, due_ms = waiting[-1] if waiting else (None, None)
    cursor = Place.parse(own or shared or b"0-0")
    behind = due_ms is not None and due_ms >= BEHIND_MS
    return DeliveryState(cursor, attempt_no, due_at(due_ms), whole_ms(dead_at_ms), whole_ms(asked_ms), behind)


def names_of(subscriber_id: str, place: Place, count: int) -> list[str]:
    """What a delivery can be called among the retries, by attempt number from 1."""
    stem = str(Waiting(subscriber_id, place, 1))[:-1]  # hundreds of these are asked about at a time
    return [f"{stem}{no}" for no in range(1, count + 1)]


def whole_ms(score: float | None) -> int | None:
    """A sorted set's score as Unix milliseconds."""
    return None if score is None else int(score)
