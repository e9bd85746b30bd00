"""Subscribers behind the operator's egress proxy: nothing but the proxy is ever dialled.

What the guard promises then: URLs are judged as ever, so literals that are not public and reserved names are refused;
no socket is opened to any address but the proxy's own; and TLS reaches from here to the subscriber, so the proxy sees
a host name, a port and ciphertext. What it cannot promise: which address a *name* leads to. Only the proxy resolves
it, so a name that leads into a private network must be refused there. Plain http is the proxy's to read.
"""

import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import ClientConnectorDNSError, ClientError, ClientRequest, ClientTimeout, hdrs
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from aiohttp.tracing import Trace
from multidict import CIMultiDict
from yarl import URL

from relay.core.addresses import EVERYWHERE, ProxyUrl
from relay.egress.failures import ProxyFailedError, with_name
from relay.egress.resolver import AddressBlockedError, GuardedResolver
from relay.egress.stopwatch import Stopwatch
from relay.egress.transport import GuardedConnector, Wire

_MAX_ADDRESSES: Final = 256


class ProxyResolver(AbstractResolver):
    """Resolves the proxy's name only, and remembers what may therefore be dialled."""

    def __init__(self, proxy: ProxyUrl, resolver: AbstractResolver | None = None) -> None:
        self._proxy = proxy
        self._resolver = resolver or GuardedResolver(EVERYWHERE)
        # aiohttp does not ask a resolver for a literal; for a name this matches no socket address.
        self._addresses = {proxy.host}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of the proxy; raises `AddressBlockedError` for any other name."""
        if host != self._proxy.host:
            raise AddressBlockedError("the name is not the proxy's")
        found = await self._resolver.resolve(host, port, family)
        if len(self._addresses) >= _MAX_ADDRESSES:
            self._addresses.clear()
        # Added, not replaced: another attempt may be about to dial what an earlier answer said.
        self._addresses.update(one["host"] for one in found)
        return found

    def check(self, address: Sequence[Any]) -> None:
        """Refuse a socket address that is not the proxy's; raises `AddressBlockedError`."""
        if address[0] not in self._addresses or address[1] != self._proxy.port:
            raise AddressBlockedError(f"the address {address[0]} is not the proxy's")

    async def close(self) -> None:
        """Release what the resolver behind it holds."""
        await self._resolver.close()


class ProxyConnector(GuardedConnector):
    """A pool of connections that were all opened by way of the proxy: CONNECT for https, as it is for plain http."""

    def __init__(
        self,
        proxy: ProxyUrl,
        resolver: AbstractResolver | None,
        *,
        agent: str,
        connections: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        pinned = ProxyResolver(proxy, resolver)
        super().__init__(pinned, pinned.check, connections=connections, tls=tls)
        host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
        self._proxy = ClientRequest(hdrs.METH_CONNECT, URL(f"http://{host}:{proxy.port}"), loop=self._loop)
        self._headers = {hdrs.USER_AGENT: agent}
        if proxy.authorization:
            self._headers[hdrs.PROXY_AUTHORIZATION] = proxy.authorization

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> ResponseHandler:
        """Open a connection for `req`; until the subscriber is involved, every failure is a `ProxyFailedError`."""
        watch = traces[0]
        if isinstance(watch, Stopwatch):
            watch.at_proxy = True
        try:
            transport, wire = await self._create_direct_connection(self._proxy, [], timeout)
        except ClientConnectorDNSError as error:
            raise ProxyFailedError("the proxy's name does not resolve") from error
        except (ClientError, OSError) as error:
            raise ProxyFailedError(with_name("cannot connect to the proxy", error)) from error
        if isinstance(watch, Stopwatch):
            watch.at_proxy = False
        if not req.is_ssl():
            return wire
        try:
            await self._ask_for_tunnel(wire, f"{req.url.host_subcomponent}:{req.port}")
        except BaseException:
            transport.abort()
            raise
        return (await self._start_tls_connection(transport, req, timeout))[1]

    async def _ask_for_tunnel(self, wire: ResponseHandler, authority: str) -> None:
        """CONNECT (RFC 9110, 9.3.6): any 2xx opens the tunnel.

        Anything else is taken for our failure, although some proxies say 502 to 504 for a subscriber that is down:
        better a subscriber that is tried too long than all of them blamed for a proxy.
        """
        if not isinstance(wire, Wire):
            raise TypeError("the pool holds another kind of connection")
        try:
            await wire.ask(f"CONNECT {authority} HTTP/1.1", CIMultiDict({hdrs.HOST: authority} | self._headers), b"")
            message, _ = await wire.answer()
        except (ClientError, HttpProcessingError, OSError) as error:
            raise ProxyFailedError("the proxy closed the connection or does not speak HTTP") from error
        if not 200 <= message.code < 300:  # noqa: PLR2004 - the classes of RFC 9110
            raise ProxyFailedError(f"the proxy answered HTTP {message.code} to CONNECT")
