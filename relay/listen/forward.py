"""Passing a webhook on to a local application, and its answer back.

The invariant: the application gets the same bytes and the same headers, except those that belong to one connection
(RFC 9110, 7.6.1), so that its own verification is exercised. One request is one request: redirects are not followed,
nothing is sent twice, and a request that comes back to us ends here.
"""

import asyncio
import secrets
from collections.abc import Iterable
from typing import Final

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, StreamReader, TCPConnector, hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy

from relay.core.addresses import EVERYWHERE, check_url
from relay.egress.failures import FAILURES, classify_failure
from relay.listen.check import RejectedError

FORWARD_S: Final = 60.0
"""The longest that a subscriber may have for one attempt."""
MAX_ANSWER_BYTES: Final = 1024 * 1024
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_ADDED_BY_THE_CLIENT: Final = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT)


class Forwarder:
    """Sends webhooks to exactly one URL; raises `UrlRefusedError` for one that cannot be used.

    The person at the keyboard names the application, so any address is allowed.
    """

    def __init__(self, url: str, *, timeout_s: float = FORWARD_S) -> None:
        self.url = check_url(url, allow_http=True, allow=EVERYWHERE).url
        self._timeout = ClientTimeout(total=timeout_s)
        self._name = f"1.1 relay-listen-{secrets.token_hex(6)}"
        self._session: ClientSession | None = None

    async def start(self) -> None:
        """Open the client; needs a running loop."""
        self._session = ClientSession(
            connector=TCPConnector(force_close=True, limit=0),  # the application may be restarted at any time
            timeout=self._timeout,
            auto_decompress=False,
            cookie_jar=DummyCookieJar(),
            skip_auto_headers=_ADDED_BY_THE_CLIENT,
            max_field_size=65536,
        )

    async def close(self) -> None:
        """Close the client."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def check_loop(self, headers: CIMultiDictProxy[str]) -> None:
        """Refuse what this receiver itself has sent: its name is in `Via` (RFC 9110, 7.6.3)."""
        if any(self._name in line for line in headers.getall(hdrs.VIA, ())):
            raise RejectedError(508, "--forward leads back to this receiver: name your application's URL")

    async def send(self, headers: CIMultiDictProxy[str], body: bytes) -> web.Response:
        """Return the application's answer, ready to be given; raises `RejectedError` with 502 if there is none."""
        if self._session is None:
            raise RuntimeError("the forwarder was not started")
        passed = _end_to_end(headers)
        passed.add(hdrs.VIA, self._name)
        try:
            async with (
                asyncio.timeout(self._timeout.total),
                self._session.post(self.url, data=body, headers=passed, allow_redirects=False) as answer,
            ):
                content = await _bounded(answer.content)
                return web.Response(status=answer.status, headers=_end_to_end(answer.headers), body=content)
        except FAILURES as error:
            _, detail = classify_failure(error)
            raise RejectedError(502, f"the application did not answer: {detail}") from None


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Keep what is meant for the far end; `Connection` may name more that is not."""
    named = {name.strip().lower() for line in headers.getall(hdrs.CONNECTION, ()) for name in line.split(",")}
    return CIMultiDict(_without(headers.items(), _HOP_BY_HOP | named))


def _without(headers: Iterable[tuple[str, str]], names: frozenset[str]) -> Iterable[tuple[str, str]]:
    return ((name, text) for name, text in headers if name.lower() not in names)


async def _bounded(content: StreamReader) -> bytes:
    """Read the answer to its end, which must come within `MAX_ANSWER_BYTES`."""
    chunks = bytearray()
    async for chunk in content.iter_any():
        chunks += chunk
        if len(chunks) > MAX_ANSWER_BYTES:
            raise RejectedError(502, f"the application's answer is longer than {MAX_ANSWER_BYTES} bytes")
    return bytes(chunks)
