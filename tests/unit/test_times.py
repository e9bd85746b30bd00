"""Times that come in: RFC 3339, all of it and nothing else."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.admin.fields import instant

AT = datetime(2026, 11, 21, 17, 0, 0, 500_000, UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T17:00:00.5Z",
        "2026-11-21t17:00:00.500z",
        "2026-11-21T18:30:00.5+01:30",
        "2026-11-20T17:01:00.5-23:59",
        "2026-11-21T17:00:00.5-00:00",
        "2026-11-21T17:00:00.500000999Z",
    ],
)
def test_every_way_to_write_a_time_is_read(text: str) -> None:
    """Letters in either case, any fraction, any offset."""
    assert instant(text) == AT


@pytest.mark.parametrize(
    "value",
    [
        *(
            "2026-W47-6T17Z",
            "20261121T170000,5Z",
            "2026-11-21T17:00:00,5Z",
            "2026-11-21 17:00:00Z",
            "2026-11-21T17:00Z",
        ),
        *("2026-11-21", "2026-11-21T17:00:00", "2026-11-21T17:00:00+0100", "2026-11-21T17:00:00+01", "now", ""),
        *("2026-02-29T00:00:00Z", "2026-11-21T24:00:00Z", "2026-11-21T17:60:00Z", "2026-11-21T17:00:61Z"),
        *("2026-11-21T17:00:00+24:00", "2026-11-21T17:00:00+00:60", "2026-11-21T17:00:00.Z", "2026-11-21T17:00:00Z\n"),
        *("٢٠٢٦-11-21T17:00:00Z", " 2026-11-21T17:00:00Z", "0000-01-01T00:00:00Z", "2026-11-21T17:00:60Z"),
        *("2026-12-31T23:59:60+01:00", "9999-12-31T23:59:60Z", 1_795_280_400, None, True),
    ],
)
def test_what_is_no_such_time_is_refused(value: object) -> None:
    """Other forms of ISO 8601, days and times that do not exist, leap seconds where none can be, numbers."""
    with pytest.raises(ValueError, match="RFC 3339"):
        instant(value)


@pytest.mark.parametrize("text", ["2016-12-31T23:59:60Z", "2016-12-31T15:59:60.7-08:00"])
def test_a_leap_second_is_the_second_after_it(text: str) -> None:
    """Python's clock has none; wherever it is in the world, it is the end of a month in UTC."""
    assert instant(text) == datetime(2017, 1, 1, tzinfo=UTC)


@given(st.datetimes(), st.integers(-1439, 1439))
def test_what_is_written_is_read(at: datetime, minutes: int) -> None:
    """Any moment, at any offset in whole minutes."""
    told = at.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert instant(told.isoformat()) == told
