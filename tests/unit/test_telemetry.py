"""Log lines for people and for machines, and what is on the metrics page."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import generate_latest

from relay.telemetry import Metrics, configure_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def written(style: str, **fields: object) -> str:
    """One line of a log of this style."""
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, "utf-8")
    configure_logging("console" if style == "console" else "json", "info", stream)
    structlog.get_logger().log(logging.INFO, "delivery.attempted", **fields)
    stream.flush()
    return buffer.getvalue().decode()


def test_people_see_fields_in_their_order_and_none_that_is_empty() -> None:
    """Fields come as they were given; None and what is empty is left out, a zero and a False are not."""
    line = written("console", zebra=1, apple=0, none=None, text="", items=[], told=False)
    assert line.index("zebra") < line.index("apple") < line.index("told")
    assert not {"none", "text", "items"} & set(line.replace("=", " ").split())


def test_machines_see_every_field() -> None:
    """A line in JSON has the same fields whatever they hold."""
    line = json.loads(written("json", zebra=1, none=None, items=[]))
    assert (line["event"], line["zebra"], line["none"], line["items"]) == ("delivery.attempted", 1, None, [])


def test_no_series_tells_when_another_was_made() -> None:
    """`…_created` would double the series and say nothing."""
    metrics = Metrics()
    metrics.polls.labels("lod", "ok").inc()
    metrics.dead.inc()
    page = generate_latest(metrics.registry).decode()
    assert 'relay_polls_total{result="ok",source="lod"} 1.0' in page
    assert "_created" not in page
