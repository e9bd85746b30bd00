"""Which changes of a subscriber may be its mending, and which say nothing about how it is doing."""

from typing import Any

import pytest
from msgspec.structs import replace

from relay.core.subscriber import State, StoredSecret, Subscriber, may_be_mended

FAILING = Subscriber(id="s", url="https://a.example", state=State(status="failing", reason="status 500"), notices=1)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://b.example"},
        {"headers": {"X-A": "b"}},
        {"secrets": (StoredSecret(sealed="other"),)},
        {"timeout_s": 30.0},
        {"rate_per_s": 1.0},
        {"max_in_flight": 1},
        {"format": "cloudevents"},
        {"event_types": ("lab.*",)},
        {"enabled": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_an_owner_may_have_mended(change: dict[str, Any]) -> None:
    """Where, what, how fast and with which secrets is sent; that it is to be sent to again."""
    assert may_be_mended(FAILING, replace(FAILING, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"description": "new", "updated_at": "2026-11-21T17:00:00Z"},
        {"ordering": "entity"},
        {"retry_schedule_s": (1.0,)},
        {"state": State(status="failing", reason="time-out"), "notices": 2},
        {"state": State(), "notices": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_mends_nothing(change: dict[str, Any]) -> None:
    """A note of the relay's own, a name, an order, a schedule."""
    assert not may_be_mended(FAILING, replace(FAILING, **change))
