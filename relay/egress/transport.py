"""aiohttp's connections against hostile subscribers: what is dialled, how much is heard, what is sent twice.

The invariant: a connection answers one request at a time. Bytes that come before a request or after its answer are
never taken for the answer to another one.
"""

import asyncio
import functools
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiohttp import AddrInfoType, ClientPayloadError, StreamReader, TCPConnector
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage, StreamWriter
from multidict import CIMultiDict

from relay.core.addresses import Network
from relay.egress.resolver import check_address

KEEP_ALIVE_S: Final = 15.0
RECEIVE_BUFFER_BYTES: Final = 16 * 1024
"""Answers are tiny. A small window bounds how much a hostile one can push through the parser before it is read."""
MAX_HEADERS: Final = 128
MAX_HEADER_BYTES: Final = 8190
MAX_INFORMATIONAL: Final = 8
_SWITCHING_PROTOCOLS: Final = 101
_FIRST_FINAL: Final = 200
_END_OF_HEAD: Final = b"\r\n\r\n"


class Wire(ResponseHandler):
    """One connection's protocol: it asks, hears the answer, and knows what it was used for before."""

    uses = 0
    _asked_at = 0.0
    _answered_at: float | None = None
    _informational = 0
    _final: StreamReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; and read in small pieces, because asyncio would allocate 256 KiB afresh for every answer."""
        super().connection_made(transport)
        if hasattr(transport, "max_size"):  # plain TCP on asyncio's own loop; TLS keeps one buffer anyway
            transport.max_size = RECEIVE_BUFFER_BYTES

    async def ask(self, line: str, headers: CIMultiDict[str], body: bytes) -> None:
        """Send a request in one piece and wait for nothing: an answer may come before the body is taken.

        Raises ValueError for what cannot be a header, and ClientConnectionError on a connection that is closed.
        """
        self.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )
        self._asked_at = self._loop.time()
        writer = StreamWriter(self, self._loop)
        await writer.write_headers(line, headers)
        await writer.write(body, drain=False)

    async def answer(self) -> tuple[RawResponseMessage, StreamReader]:
        """Hear the final answer's head; its body follows in the reader."""
        while True:
            message, content = await self.read()
            if _is_final(message.code):
                return message, content

    def set_response_params(self, **params: Any) -> None:
        """Begin another request."""
        self.uses += 1
        self._answered_at = None
        self._informational = 0
        self._final = None
        super().set_response_params(**params)

    @property
    def first_byte_s(self) -> float | None:
        """From sending the request to the first byte of an answer, if one came."""
        return None if self._answered_at is None else self._answered_at - self._asked_at

    @property
    def was_stale(self) -> bool:
        """Whether a request met a kept connection that was closed without a byte of an answer."""
        return self.uses > 1 and self._answered_at is None

    @property
    def should_close(self) -> bool:
        """Whether it cannot serve another request; not while this one's bytes are still unsent either."""
        return super().should_close or (self.transport is not None and self.transport.get_write_buffer_size() > 0)

    def data_received(self, data: bytes) -> None:
        """Hear bytes, head by head: the parser forgets a head if anything after it in one segment is wrong."""
        if self._answered_at is None:
            self._answered_at = self._loop.time()
        rest = data
        while True:
            if rest and self._is_unsolicited():
                self.abort()
                return
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
        if _is_final(code):
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


def _is_final(code: int) -> bool:
    return code >= _FIRST_FINAL or code == _SWITCHING_PROTOCOLS


def open_socket(check: Callable[[Sequence[Any]], None], info: AddrInfoType) -> socket.socket:
    """Make the socket for one address; the last layer of the guard, which IP literals cannot bypass."""
    family, kind, proto, _, address = info
    check(address)
    opened = socket.socket(family, kind, proto)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    return opened


class GuardedConnector(TCPConnector):
    """A pool without a cap per host: the dispatcher bounds each subscriber, and `connections` only the whole.

    `check` is called with every socket address before it is dialled and raises `AddressBlockedError`.
    """

    def __init__(
        self,
        resolver: AbstractResolver,
        check: Callable[[Sequence[Any]], None],
        *,
        connections: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(
            resolver=resolver,
            use_dns_cache=False,  # the resolver has its own
            socket_factory=functools.partial(open_socket, check),
            limit=connections,
            limit_per_host=0,
            keepalive_timeout=KEEP_ALIVE_S,
            ssl=tls or True,
        )
        wire: type[ResponseHandler] = Wire
        self._factory = functools.partial(wire, loop=self._loop)


def guarded(
    resolver: AbstractResolver, allow: Sequence[Network], *, connections: int, tls: ssl.SSLContext | None
) -> GuardedConnector:
    """Make a pool that dials what `classify` lets pass."""
    return GuardedConnector(resolver, lambda address: check_address(address, allow), connections=connections, tls=tls)
