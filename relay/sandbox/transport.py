"""Carries the simulators' answers over HTTP, or breaks them off where the answer says so."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from relay.sandbox.answers import Answer, Manner
from relay.sandbox.learnosity_simulator import LearnositySimulator
from relay.sandbox.lod_simulator import LodSimulator

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROUTING_HEADERS = ("X-Learnosity-Consumer", "X-Learnosity-Action", "X-Learnosity-SDK")
LINGER_NONE = struct.pack("ii", 1, 0)


async def read_form(request: web.Request) -> dict[str, str]:
    """Text fields of an urlencoded or multipart body; anything else has none. The first of a name counts."""
    try:
        fields = await request.post()
    except (ValueError, LookupError, HttpProcessingError):  # no boundary, no such charset, broken part headers
        return {}
    return {name: text for name in fields if isinstance(text := fields[name], str)}


def lod_handler(simulator: LodSimulator, stopping: asyncio.Event) -> Handler:
    """Handle GET and POST alike; parameters may come in the query or in a form."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "POST"):
            return web.Response(status=405, headers={"Allow": "GET, POST"})
        parameters = {**await read_form(request), **request.query}
        answer = simulator.answer(request.method, request.path, parameters, request.headers.get("api_key"))
        return await send(request, answer, stopping)

    return handle


def learnosity_handler(simulator: LearnositySimulator, stopping: asyncio.Event) -> Handler:
    """Hand every request to the simulator, which also knows the paths and methods that do not exist."""

    async def handle(request: web.Request) -> web.StreamResponse:
        form = await read_form(request)
        routing = tuple(name for name in ROUTING_HEADERS if name in request.headers)
        return await send(request, simulator.answer(request.method, request.path, form, routing), stopping)

    return handle


async def send(request: web.Request, answer: Answer, stopping: asyncio.Event) -> web.StreamResponse:
    """Write one answer. A stalled one waits for the client to go away or for the sandbox to stop."""
    headers = {"Content-Type": answer.content_type, **answer.headers}
    if answer.manner is Manner.WHOLE:
        return web.Response(status=answer.status, body=answer.body, headers=headers)
    response = web.StreamResponse(status=answer.status, headers={**headers, "Content-Length": str(len(answer.body))})
    if answer.manner in (Manner.STALL_BODY, Manner.RESET_BODY):
        await response.prepare(request)
        await response.write(answer.body[: len(answer.body) // 2])
    if answer.manner in (Manner.STALL, Manner.STALL_BODY):
        await stopping.wait()
    _reset(request)
    return response


def _reset(request: web.Request) -> None:
    """Send RST instead of a polite end (`SO_LINGER` of zero seconds)."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    request.transport.abort()
