"""Receivers of every temper in a process of their own, by path: /ok, /refuse, /hang, /drip, /flood, /headers.

Run as a script: prints its port, then serves until it is terminated.
"""

import asyncio
import contextlib

OK = b"HTTP/1.1 204 No Content\r\n\r\n"
REFUSE = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"


async def _serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            path = head.split(b" ", 2)[1]
            length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            if not await _answer(path, writer):
                break
    writer.close()


async def _answer(path: bytes, writer: asyncio.StreamWriter) -> bool:
    """Answer as the path says; whether the connection goes on."""
    if path in (b"/ok", b"/refuse"):
        writer.write(OK if path == b"/ok" else REFUSE)
        await writer.drain()
        return True
    if path == b"/hang":
        await asyncio.sleep(3600)
    writer.write(b"HTTP/1.1 200 OK\r\n" if path in (b"/drip", b"/headers") else b"HTTP/1.1 500 No\r\n\r\n")
    while True:
        if path == b"/drip":
            writer.write(b"x")
            await asyncio.sleep(0.5)
        else:
            writer.write(b"x-filler: " + b"x" * 1000 + b"\r\n" if path == b"/headers" else b"x" * 65_536)
        await writer.drain()


async def _serve() -> None:
    server = await asyncio.start_server(_serve_one, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve())
