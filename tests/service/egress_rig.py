"""What the egress tests share: answers of a name server, certificates, and a real little proxy."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.egress.resolver import AddressInfo
from tests.service.raw_server import Peer, RawServer, serving


def answers(*addresses: str) -> Sequence[AddressInfo]:
    """Make what `getaddrinfo` would return."""
    return [
        (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in addresses
    ]


def certificate(directory: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a self-signed certificate for `name`: a server's context, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


class Proxied:
    """What a proxy was asked: the heads of its requests, and every byte that it carried after them."""

    def __init__(self, server: RawServer) -> None:
        self.server = server
        self.heads: list[bytes] = []
        self.carried = b""

    @property
    def address(self) -> str:
        """`host:port` of the proxy."""
        return urlsplit(self.server.url).netloc

    @property
    def lines(self) -> list[bytes]:
        """The request lines."""
        return [head.partition(b"\r\n")[0] for head in self.heads]


@contextlib.asynccontextmanager
async def proxying(subscriber: RawServer | None, *, established: bytes = b"") -> AsyncIterator[Proxied]:
    """Run a proxy that opens every tunnel, and forwards every request, to the same subscriber."""
    granted = established or b"HTTP/1.1 200 Connection established\r\n\r\n"

    async def behave(peer: Peer) -> None:
        head = await peer.reader.readuntil(b"\r\n\r\n")
        proxied.heads.append(head)
        assert subscriber is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(subscriber.url).port)
        if head.startswith(b"CONNECT "):
            await peer.send(granted)
        else:
            writer.write(head)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(carry(peer.reader, writer))
                group.create_task(carry(reader, peer.writer))
        finally:
            writer.transport.abort()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                proxied.carried += data
                writer.write(data)
                await writer.drain()
            writer.close()

    async with serving(behave) as server:
        proxied = Proxied(server)
        yield proxied
