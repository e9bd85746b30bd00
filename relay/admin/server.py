"""The HTTP server of both listeners, as anybody without a token meets it.

Invariants: a connection holds some tens of KiB at most, and only for a bounded time unless a handler is at work for it;
there are never more of them than the listener may have; whatever is refused before a request reaches the application
is answered as the application answers, and nothing of the request is repeated.

When a listener is full, the connection that has waited longest for its next request makes room. Whoever opens
connections to keep others out closes his own, and a probe of the cluster still gets through; only when all are at work
is the newcomer refused.
"""

import asyncio
import contextlib
from asyncio import TimerHandle, Transport
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong

from relay.admin.errors import answer_outside
from relay.admin.feed_tail import MAX_STREAMS
from relay.admin.problems import ProblemError
from relay.telemetry import Metrics, Seldom, http_logger

HEAD_S: Final = 10.0
"""Time in which the head of a request must have arrived; for a connection's first one, from the connection on."""
KEEP_ALIVE_S: Final = 75.0
"""How long a connection may stay idle after an answer; longer than the proxies in front, which then close first."""
ANSWER_S: Final = 120.0
"""Time in which an answer must have been taken (a stream of events watches its reader itself)."""
HEAD_BYTES: Final = 16_384
HEADERS: Final = 64
_LINE_BYTES: Final = 8190
_SLICE: Final = 4096
_END: Final = b"\r\n\r\n"
_BACKLOG: Final = 128
_STOP_S: Final = 2.0
_LINGER_S: Final = 1.0

OPS_CONNECTIONS: Final = 100
_API_CONNECTIONS: Final = 1000
_OF_ALL: Final = 4
"""The API takes at most this part of the open files: attempts, upstreams and the store need theirs."""

_MALFORMED: Final = f"send an HTTP/1.1 request with a known method, and at most {HEADERS} headers (RFC 9112)"
_TOO_LARGE: Final = f"send at most {HEAD_BYTES} bytes before the body, and at most {_LINE_BYTES} in one line"
_UNEXPECTED: Final = "the relay's log has the kind of the error"


def api_connections(descriptors: int) -> int:
    """How many connections the API may have where so many files may be open: every stream of events has its place."""
    return max(MAX_STREAMS + MAX_STREAMS // 8, min(_API_CONNECTIONS, descriptors // _OF_ALL))


class Gate:
    """The connections of one listener."""

    def __init__(
        self,
        listener: Literal["api", "ops"],
        metrics: Metrics,
        *,
        connections: int,
        head_s: float = HEAD_S,
        keep_alive_s: float = KEEP_ALIVE_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        self.head_s = head_s
        self.keep_alive_s = keep_alive_s
        self.answer_s = answer_s
        self.logger = http_logger()
        self._listener = listener
        self._metrics = metrics
        self._connections = connections
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}
        """Those that no handler is at work for, the one that has waited longest first."""
        self._full = Seldom("http.connections_full", listener=listener)

    def enter(self, connection: "Connection") -> bool:
        """Take one in, if there is room or room can be made."""
        if len(self._open) >= self._connections:
            self.refused("full")
            self._full.tell()
            if not self._waiting:
                return False
            next(iter(self._waiting)).abort()
        self._open.add(connection)
        self._count()
        self.waits(connection)
        return True

    def leave(self, connection: "Connection") -> None:
        """It is closed."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)
        self._count()

    def waits(self, connection: "Connection") -> None:
        """It waits for a request from now on."""
        if connection in self._open:
            self._waiting[connection] = None

    def works(self, connection: "Connection") -> None:
        """A request has come."""
        self._waiting.pop(connection, None)

    def is_at_work(self, connection: "Connection") -> bool:
        """Whether a request of it is being answered."""
        return connection not in self._waiting

    def refused(self, reason: Literal["full", "slow", "malformed"]) -> None:
        """Count one."""
        self._metrics.refused_connections.labels(self._listener, reason).inc()

    def _count(self) -> None:
        self._metrics.connections.labels(self._listener).set(len(self._open))


class Connection(web.RequestHandler):
    """One connection.

    Which bytes belong to a head, only the parser knows, and it says so nowhere but in the queue of the requests that it
    has found: `_messages`, the one private name that is used here. It is fed in slices, so that what follows a
    complete request is counted too.
    """

    def __init__(self, server: web.Server, gate: Gate) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=gate.keep_alive_s,
            logger=gate.logger,
            access_log=None,  # type: ignore[arg-type]  # as AppRunner hands it on
            max_line_size=_LINE_BYTES,
            max_field_size=_LINE_BYTES,
            max_headers=HEADERS,
            lingering_time=_LINGER_S,
            auto_decompress=False,
        )
        self._gate = gate
        self._wire: Transport | None = None
        """The transport, until it is really closed: what the other side does not take keeps it open for long."""
        self._body: StreamReader | None = None
        """Of the latest request."""
        self._head_bytes = 0
        """Arrived of a head that is not complete, to within a slice."""
        self._head_timer: TimerHandle | None = None
        self._too_large = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or end at once."""
        super().connection_made(transport)
        self._wire = self.transport
        if self._gate.enter(self):
            self._expect_head()
        else:
            self.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._forget_head()
        self._gate.leave(self)
        self._wire = None
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close at once, whatever has not been sent."""
        self._gate.leave(self)
        if self._wire is not None:
            self._wire.abort()

    def data_received(self, data: bytes) -> None:
        """Hand on what arrives, and watch whether it becomes a request."""
        start, end = 0, self._next(data, 0)
        while not (data and self._too_large):  # without data it is told to go on with what it has
            self._feed(data[start:end])
            if end >= len(data):
                return
            start, end = end, self._next(data, end)

    def _next(self, data: bytes, start: int) -> int:
        """Up to where to feed the parser: a complete head alone, so that it is known what follows it."""
        end = data.find(_END, start, start + _SLICE) if self._in_head else -1
        return start + _SLICE if end < 0 else end + len(_END)

    @property
    def _in_head(self) -> bool:
        return self._body is None or self._body.is_eof()

    def _feed(self, data: bytes) -> None:
        known = len(self._messages)
        super().data_received(data)
        if len(self._messages) > known:
            self._found(self._messages[-1][1])
        elif data and self._in_head:
            self._head_bytes += len(data)
            self._expect_head()
            if self._head_bytes > HEAD_BYTES:
                # A byte that no head may hold: so the refusal takes its turn behind the answers to earlier requests.
                self._too_large = True
                super().data_received(b"\0")

    def _found(self, body: StreamReader) -> None:
        """A complete head, or the end of what can be understood."""
        if self._body is not None and not self._body.is_eof():
            # The parser has found a fault in the body, which it does not tell to whom reads that.
            self._body.set_exception(web.RequestPayloadError())
            self._body.feed_eof()
            self.close()
        self._body = body
        self._head_bytes = 0
        self._forget_head()
        self._gate.works(self)

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = asyncio.get_running_loop().call_later(self._gate.head_s, self._too_slow)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._gate.refused("slow")
        if self._gate.is_at_work(self):
            self.close()  # once that is done: it has had no fault
        else:
            self.abort()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; true if it could not be sent."""
        if isinstance(resp, web.HTTPException):
            resp = answer_outside(request, resp)
        try:
            async with asyncio.timeout(self._gate.answer_s):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            self._gate.refused("slow")
            self.abort()
            return resp, True
        finally:
            if not self._messages:
                self._gate.waits(self)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP, and to what has failed outside of the application's own care."""
        super().handle_error(request, status, exc, message)  # it logs, and sees to it that no answer is sent twice
        if status != web.HTTPBadRequest.status_code:
            return answer_outside(request, ProblemError("internal", _UNEXPECTED))
        self._gate.refused("malformed")
        if self._too_large or isinstance(exc, LineTooLong):
            return answer_outside(request, ProblemError("head-too-large", _TOO_LARGE))
        return answer_outside(request, ProblemError("malformed-request", _MALFORMED))


@contextlib.asynccontextmanager
async def serving(application: web.Application, host: str, port: int, gate: Gate) -> AsyncIterator[tuple[Any, ...]]:
    """Serve an application until the end; gives the address. Raises `OSError`."""
    runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=_STOP_S)
    await runner.setup()
    try:
        server = runner.server
        assert server is not None  # noqa: S101 - for the type checker: that is what setup is for
        listening = await asyncio.get_running_loop().create_server(
            lambda: Connection(server, gate), host, port, backlog=_BACKLOG
        )
        try:
            yield listening.sockets[0].getsockname()
        finally:
            listening.close()
    finally:
        await runner.cleanup()
