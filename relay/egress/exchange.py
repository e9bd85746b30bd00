"""One request and its answer: what goes onto a connection, and when that connection may serve another one.

The invariant: a request is sent once, or twice if a kept connection turned out to be dead; and whatever happens,
its connection is given back or closed.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import ClientConnectionError, ClientRequest, ClientTimeout, StreamReader, hdrs
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from multidict import CIMultiDict
from yarl import URL

from relay.core.addresses import CheckedUrl
from relay.egress.failures import FAILURES
from relay.egress.stopwatch import Stopwatch
from relay.egress.transport import GuardedConnector, Wire

DRAIN_BYTES: Final = 4096
_UNBOUNDED: Final = ClientTimeout(total=None, sock_connect=None)  # one deadline bounds the whole attempt


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes; made once per URL."""

    request: ClientRequest
    """What the pool is asked with: scheme, host and port."""
    line: str
    headers: CIMultiDict[str]
    by_proxy: bool
    """Whether a proxy reads the request itself (plain http), so that it may also answer it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete head, with the body still to be read."""

    connection: Connection
    message: RawResponseMessage
    content: StreamReader


def make_target(checked: CheckedUrl, agent: str, *, proxied: bool = False, authorization: str | None = None) -> Target:
    """Prepare what does not change between requests; `proxied` and `authorization` (a secret) are for a proxy."""
    # Encoded: what was checked is sent, byte for byte; nothing parses or quotes it again.
    url = URL(checked.url, encoded=True)
    by_proxy = proxied and checked.scheme == "http"
    request = ClientRequest(
        "POST",
        url,
        loop=asyncio.get_running_loop(),
        server_hostname=checked.host.rstrip(".") if checked.host.endswith(".") else None,  # as certificates have it
    )
    headers = CIMultiDict({hdrs.HOST: request.headers[hdrs.HOST], hdrs.ACCEPT: "*/*", hdrs.USER_AGENT: agent})
    if by_proxy and authorization:
        headers[hdrs.PROXY_AUTHORIZATION] = authorization
    return Target(request, f"POST {checked.url if by_proxy else url.raw_path_qs} HTTP/1.1", headers, by_proxy)


async def exchange(
    connector: GuardedConnector, target: Target, headers: Mapping[str, str], body: bytes, watch: Stopwatch
) -> Answer:
    """Send and hear the answer's head; once more if the kept connection had died.

    A webhook is idempotent by its id, so that second time is not an attempt of its own.
    """
    complete = _headers(target, headers, body)
    again = False
    while True:
        connection = await connector.connect(target.request, [watch], _UNBOUNDED)
        wire = connection.protocol
        if not isinstance(wire, Wire):
            connection.close()
            raise TypeError("the pool holds another kind of connection")
        try:
            await wire.ask(target.line, complete, body)
            message, content = await wire.answer()
        except BaseException as error:
            connection.close()
            if again or not wire.was_stale or not isinstance(error, ClientConnectionError):
                raise
            again = True
        else:
            return Answer(connection, message, content)
        finally:
            watch.first_byte_s = wire.first_byte_s


def _headers(target: Target, own: Mapping[str, str], body: bytes) -> CIMultiDict[str]:
    """Put a subscriber's headers between the client's; what frames a request is not theirs to say."""
    complete = target.headers.copy()
    complete.update(own)
    if hdrs.TRANSFER_ENCODING in complete:
        raise ValueError
    complete[hdrs.HOST] = target.headers[hdrs.HOST]
    complete[hdrs.CONTENT_LENGTH] = str(len(body))
    if hdrs.PROXY_AUTHORIZATION in target.headers:
        complete[hdrs.PROXY_AUTHORIZATION] = target.headers[hdrs.PROXY_AUTHORIZATION]
    return complete


async def drain(answer: Answer, deadline: float) -> bytes:
    """Read on to the end within bounds, so that the connection can be kept; otherwise close it.

    Returns what was read. Nothing that goes wrong here changes what the attempt came to.
    """
    content = answer.content
    if content.is_eof() and content.exception() is None:  # it came with the headers, as it nearly always does
        body = content.read_nowait(-1)
        answer.connection.release()
        return body
    chunks: list[bytes] = []
    size = 0
    try:
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout_at(deadline):
                while size <= DRAIN_BYTES and not content.at_eof():
                    chunk = await content.read(DRAIN_BYTES + 1 - size)
                    chunks.append(chunk)
                    size += len(chunk)
    finally:
        if content.is_eof() and content.exception() is None:
            answer.connection.release()
        else:
            answer.connection.close()
    return b"".join(chunks)
