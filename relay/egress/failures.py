"""What an exception of an attempt means, by its type, and whose failure it is."""

import errno
import ssl
from typing import Final

from aiohttp import ClientConnectorDNSError, ClientConnectorError, ClientError, ClientPayloadError
from aiohttp.http import HttpProcessingError

from relay.core.addresses import UrlRefusedError
from relay.core.outcome import Outcome
from relay.egress.resolver import AddressBlockedError

FAILURES: Final = (ClientError, HttpProcessingError, OSError, ValueError)
"""All that an attempt may raise for what a subscriber, a proxy or a header can do."""


class ProxyFailedError(OSError):
    """The egress proxy is down, or will not do as it is asked; the message names neither it nor its credentials."""


def classify_failure(error: Exception) -> tuple[Outcome, str]:
    """Say what an exception of an attempt means; the detail names no path, secret or byte of an answer."""
    cause = error.os_error if isinstance(error, ClientConnectorError) else error
    match cause:
        case UrlRefusedError() | AddressBlockedError():
            return Outcome.BLOCKED, str(cause)
        case ProxyFailedError():
            return Outcome.PROXY, str(cause)
        case ssl.SSLError():
            return Outcome.TLS, _tls_detail(cause)
        case HttpProcessingError() | ClientPayloadError():
            return Outcome.BODY, "the answer is not valid HTTP/1.1, or its headers are too many or too long"
        case TimeoutError() if cause is error:  # the system's own ETIMEDOUT is a connection's failure
            return Outcome.TIMEOUT, "no complete answer in time"
        case ClientError() | OSError():
            return _connection_failure(error)
        case _:
            return Outcome.BLOCKED, "a header cannot be sent: it frames the request, or HTTP forbids a character in it"


_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def _connection_failure(error: Exception) -> tuple[Outcome, str]:
    """An unknown name, a refused or lost connection; TLS may also fail late (a client certificate)."""
    if isinstance(error, ClientConnectorDNSError):
        return Outcome.DNS, str(error.os_error)
    if isinstance(error.__cause__, ssl.SSLError):
        return Outcome.TLS, _tls_detail(error.__cause__)
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        return Outcome.LOCAL, with_name("this machine is out of resources", error)
    refused = isinstance(error, ClientConnectorError)
    what = "cannot connect" if refused else "the connection was lost before an answer"
    return Outcome.CONNECT, with_name(what, error)


def with_name(what: str, error: BaseException) -> str:
    """Add the name of a system error, which is the same in every language and holds no address."""
    name = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
    return f"{what} ({name})" if name else what


def _tls_detail(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was refused: {error.verify_message}"
    return f"the TLS connection failed: {error.reason or type(error).__name__}"
