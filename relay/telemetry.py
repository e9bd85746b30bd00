"""Logs and metrics: one wide line per poll and per attempt, readable on a terminal, JSON otherwise.

Neither ever holds a secret, a credential or a learner's data: callers pass ids of events and subscribers, never
payloads, and tracebacks are written without local variables.
"""

import asyncio
import logging
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from structlog.tracebacks import ExceptionDictTransformer

QUIET_S = 60.0
"""How long a warning that anybody can cause keeps silent once it has been written."""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)


def configure_logging(style: Literal["auto", "console", "json"], level: str, stream: TextIO | None = None) -> None:
    """Write to stderr: for people on a terminal, JSON lines otherwise."""
    stream = stream or sys.stderr
    console = style == "console" or (style == "auto" and stream.isatty())
    structlog.configure(
        processors=_for_people() if console else _for_machines(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(stream) if console else structlog.BytesLoggerFactory(stream.buffer),
        cache_logger_on_first_use=True,  # a line costs half as much; configure before anything is logged
    )


def http_logger() -> logging.Logger:
    """For a server's own complaints: of a request that is no HTTP it would log the bytes, which may hold a token."""
    logger = logging.getLogger("relay.http")
    logger.propagate = False
    logger.handlers = [_OnlyTheKind()]
    return logger


class Seldom:
    """A warning that anybody from outside can cause as often as they like: the first at once, then one line a minute.

    Each line says how often it has happened since the one before, so nothing goes untold. Needs a running event loop.
    """

    def __init__(self, event: str, **fields: str) -> None:
        self._event = event
        self._fields = fields
        self._count = 0
        self._quiet = False

    def tell(self) -> None:
        """It has happened again."""
        self._count += 1
        if not self._quiet:
            self._write()

    def _write(self) -> None:
        self._quiet = self._count > 0
        if self._quiet:
            structlog.get_logger().warning(self._event, count=self._count, **self._fields)
            self._count = 0
            asyncio.get_running_loop().call_later(QUIET_S, self._write)


class _OnlyTheKind(logging.Handler):
    """Tells the kind of an error, and nothing of what it says."""

    def __init__(self) -> None:
        super().__init__()
        self._warnings: dict[str, Seldom] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """One line of ours for many of theirs."""
        kind = record.exc_info[0] if record.exc_info else None
        error = kind.__name__ if kind else record.levelname
        self._warnings.setdefault(error, Seldom("http.not_served", error=error)).tell()


def _for_people() -> list[structlog.typing.Processor]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        _without_empty,
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback, sort_keys=False),
    ]


def _without_empty(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Drop what says nothing; a machine wants the same fields on every line, a person does not. Zeros stay."""
    return {name: value for name, value in line.items() if value not in (None, "", [], (), {})}


def _for_machines() -> list[structlog.typing.Processor]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
        structlog.processors.JSONRenderer(serializer=_json),
    ]


def _json(line: Any, **_: Any) -> bytes:
    return msgspec.json.encode(line, enc_hook=repr)


class Metrics:
    """The Prometheus metrics of one relay. Labels are names of settings, types and outcomes: a bounded set."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks for
        self.registry = registry = CollectorRegistry()
        self.polls = Counter("relay_polls", "Polls of a source by result.", ["source", "result"], registry=registry)
        self.poll_seconds = Histogram(
            "relay_poll_seconds", "Duration of a complete poll.", ["source"], buckets=SECONDS, registry=registry
        )
        self.last_good_poll = Gauge(
            "relay_source_last_good_poll_timestamp_seconds",
            "When the last complete poll started.",
            ["source"],
            registry=registry,
        )
        self.rows = Counter("relay_rows", "Rows by what became of them.", ["source", "fate"], registry=registry)
        self.events = Counter("relay_events", "Events minted.", ["source", "type"], registry=registry)
        self.attempt_seconds = Histogram(
            "relay_attempt_seconds",
            "Attempts by outcome, and how long they took.",
            ["outcome"],
            buckets=SECONDS,
            registry=registry,
        )
        self.delivery_seconds = Histogram(
            "relay_delivery_seconds",
            "From the observation of a transition to its first acknowledged delivery to a subscriber.",
            buckets=(*SECONDS, 300, 3600),
            registry=registry,
        )
        self.in_flight = Gauge("relay_attempts_in_flight", "Attempts under way.", registry=registry)
        self.replayed = Counter(
            "relay_replayed_deliveries", "Deliveries that a replay has made due again.", registry=registry
        )
        self.dead = Counter("relay_dead_letters", "Deliveries given up.", registry=registry)
        self.leases = Gauge("relay_leases_held", "Leases that this replica holds.", ["kind"], registry=registry)
        self.streams = Gauge("relay_event_streams", "Streams of events that are open.", registry=registry)
        self.refused_tokens = Counter(
            "relay_refused_tokens", "Requests whose token is none of the configured ones.", registry=registry
        )
        self.connections = Gauge(
            "relay_http_connections", "Connections that are open.", ["listener"], registry=registry
        )
        self.refused_connections = Counter(
            "relay_http_refused",
            "Connections that were closed, or requests that were refused unread, by reason.",
            ["listener", "reason"],
            registry=registry,
        )
        self.store_errors = Counter("relay_store_errors", "Store calls that failed.", registry=registry)

    def polled(self, source: str, started_s: float, seconds: float, fates: Mapping[str, int]) -> None:
        """Count a complete poll that began at this Unix time, and its rows by what became of them."""
        self.polls.labels(source, "ok").inc()
        self.poll_seconds.labels(source).observe(seconds)
        self.last_good_poll.labels(source).set(started_s)
        for fate, rows in fates.items():
            self.rows.labels(source, fate).inc(rows)
