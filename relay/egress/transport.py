"""aiohttp's connections against hostile subscribers: what is dialled, how much is heard, what is sent twice.

The invariant: a connection answers one request at a time. Bytes that come before a request or after its answer are
never taken for the answer to another one.
"""

import functools
import socket
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import (
    AddrInfoType,
    ClientConnectionError,
    ClientHandlerType,
    ClientPayloadError,
    ClientRequest,
    ClientResponse,
    StreamReader,
    TCPConnector,
)
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage

from relay.core.addresses import Network
from relay.egress.resolver import GuardedResolver, check_address

KEEP_ALIVE_S: Final = 15.0
RECEIVE_BUFFER_BYTES: Final = 16 * 1024
"""Answers are tiny. A small window bounds how much a hostile one can push through the parser before it is read."""
MAX_INFORMATIONAL: Final = 8
_SWITCHING_PROTOCOLS: Final = 101
_FIRST_FINAL: Final = 200
_END_OF_HEAD: Final = b"\r\n\r\n"


class Wire(ResponseHandler):
    """One connection's protocol, which also knows whether it was used before and what it has heard."""

    uses = 0
    answered = False
    _informational = 0
    _final: StreamReader | None = None

    def set_response_params(self, **params: Any) -> None:
        """Begin another request."""
        self.uses += 1
        self.answered = False
        self._informational = 0
        self._final = None
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Hear bytes, head by head: the parser forgets a head if anything after it in one segment is wrong."""
        rest = data
        while True:
            if rest and self._is_unsolicited():
                self.abort()
                return
            self.answered = True
            head, end, rest = rest.partition(_END_OF_HEAD) if self._final is None else (rest, b"", b"")
            super().data_received(head + end)
            if not rest or self.transport is None or self.exception() is not None:
                return

    def _is_unsolicited(self) -> bool:
        """Whether nothing is asked, or the answer is complete: what follows would pass for the next one's answer."""
        return not self.uses or (self._final is not None and self._final.is_eof())

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take one parsed head; endless informational ones (1xx) are a failure."""
        code = data[0].code
        if code >= _FIRST_FINAL or code == _SWITCHING_PROTOCOLS:
            self._final = data[1]
        else:
            self._informational += 1
        if self._informational <= MAX_INFORMATIONAL:
            super().feed_data(data, size)
        elif self.transport is not None:
            self.transport.abort()
            self.set_exception(HttpProcessingError(code=code, message="too many informational answers"))

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Fail, and tell the body's reader too: aiohttp lets it wait when a chunk cannot be parsed."""
        super().set_exception(exc, exc_cause or exc)
        if self._final is not None and not self._final.is_eof() and self._final.exception() is None:
            self._final.set_exception(ClientPayloadError("the body is broken"))

    def close(self) -> None:
        """Close without waiting for a peer that does not read: what is unsent would hold the socket for ever."""
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.abort()
        else:
            super().close()


class GuardedRequest(ClientRequest):
    """A request that remembers the connection it was sent on."""

    wire: Wire | None = None

    async def send(self, conn: Connection) -> ClientResponse:
        """Send on `conn`."""
        if isinstance(conn.protocol, Wire):
            self.wire = conn.protocol
        return await super().send(conn)

    def was_stale(self) -> bool:
        """Whether the request met a kept-alive connection that was closed without a byte of an answer."""
        wire = self.wire
        return wire is not None and wire.uses > 1 and not wire.answered


async def resend_if_stale(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Middleware: send once more if the connection had died while it was kept.

    aiohttp does so for idempotent methods only; a webhook is idempotent by its id, so it is not counted either.
    """
    try:
        return await handler(request)
    except ClientConnectionError:
        if not isinstance(request, GuardedRequest) or not request.was_stale():
            raise
        await request.close()  # the body's writer must have settled before the body is read again
        request.wire = None
    return await handler(request)


def open_socket(allow: Sequence[Network], info: AddrInfoType) -> socket.socket:
    """Make the socket for one address; the last layer of the guard, which IP literals cannot bypass."""
    family, kind, proto, _, address = info
    check_address(address, allow)
    opened = socket.socket(family, kind, proto)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    return opened


class GuardedConnector(TCPConnector):
    """A pool without a cap per host: the dispatcher bounds each subscriber, and `connections` only the whole."""

    def __init__(
        self, allow: Sequence[Network], resolver: GuardedResolver, *, connections: int, **options: Any
    ) -> None:
        super().__init__(
            resolver=resolver,
            use_dns_cache=False,  # the resolver has its own
            socket_factory=functools.partial(open_socket, tuple(allow)),
            limit=connections,
            limit_per_host=0,
            keepalive_timeout=KEEP_ALIVE_S,
            **options,
        )
        wire: type[ResponseHandler] = Wire
        self._factory = functools.partial(wire, loop=self._loop)
