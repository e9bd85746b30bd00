"""The sandbox's control surface: what tests do in process, over HTTP and JSON.

It exists for development only, on the sandbox's own port. Bad input gets status 400 and `{"error": "…"}`.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from relay.sandbox.answers import SandboxInputError
from relay.sandbox.clock import SandboxClock
from relay.sandbox.learnosity_simulator import MAX_LAG_S, LearnositySimulator
from relay.sandbox.lod_rows import Selection
from relay.sandbox.lod_simulator import LodSimulator

Simulator = LodSimulator | LearnositySimulator
Act = Callable[[bytes], Mapping[str, Any]]
BodyT = TypeVar("BodyT")

HELP = {
    "GET /_control": "this text",
    "POST /_control/advance": {"seconds": 60},
    "POST /_control/lod/put": {"id": 349744, "CompletionStatus": 4, "End": "now", "ExamScore": 80},
    "POST /_control/lod/remove": {"id": 349744},
    "POST /_control/lod/fault": {"fault": "503_html", "times": 3},
    "POST /_control/lod/set": {"selection": "any_state_change", "duplicate_rows": True},
    "GET /_control/lod/requests": "what was seen, newest last",
    "POST /_control/learnosity/put": {"session_id": "s-1", "status": "Completed", "num_attempted": 9},
    "POST /_control/learnosity/remove": {"session_id": "s-1"},
    "POST /_control/learnosity/fault": {"fault": None},
    "POST /_control/learnosity/set": {"read_lag_s": 3, "rate_limit": 1000},
    "GET /_control/learnosity/requests": "what was seen, newest last",
}


class _Struct(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _Advance(_Struct):
    seconds: float


class _Fault(_Struct):
    fault: str | None
    times: int | None = None


class _RemoveLab(_Struct):
    id: int


class _RemoveSession(_Struct):
    session_id: str


class _LodSettings(_Struct):
    selection: Selection | UnsetType = UNSET
    duplicate_rows: bool | UnsetType = UNSET
    refuse_with_401: bool | UnsetType = UNSET
    expired: bool | UnsetType = UNSET


class _LearnositySettings(_Struct):
    read_lag_s: Annotated[float, Meta(ge=0, le=MAX_LAG_S)] | UnsetType = UNSET
    rate_limit: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    inclusive: bool | UnsetType = UNSET
    disabled: Literal[41008, 41009] | UnsetType | None = UNSET


def control_routes(clock: SandboxClock, lod: LodSimulator, learnosity: LearnositySimulator) -> list[web.RouteDef]:
    """Every route under `/_control`."""
    acts: Mapping[str, Act] = {
        "advance": partial(_advance, clock),
        "lod/put": partial(_put_lab, lod),
        "lod/remove": partial(_remove_lab, lod),
        "lod/fault": partial(_set_fault, lod),
        "lod/set": partial(_set, lod, _LodSettings),
        "learnosity/put": partial(_put_session, learnosity),
        "learnosity/remove": partial(_remove_session, learnosity),
        "learnosity/fault": partial(_set_fault, learnosity),
        "learnosity/set": partial(_set, learnosity, _LearnositySettings),
    }
    return [
        web.get("/_control", _shows(lambda: HELP)),
        web.get("/_control/lod/requests", _shows(lambda: {"data": lod.requests})),
        web.get("/_control/learnosity/requests", _shows(lambda: {"data": learnosity.requests})),
        *(web.post(f"/_control/{path}", _does(act)) for path, act in acts.items()),
        web.route("*", "/_control{rest:.*}", _unknown),
    ]


Handler = Callable[[web.Request], Awaitable[web.Response]]


def _shows(read: Callable[[], Any]) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        return _json(200, read())

    return handle


def _does(act: Act) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            return _json(200, act(await request.read()))
        except SandboxInputError as error:
            return _json(400, {"error": str(error)})

    return handle


async def _unknown(_: web.Request) -> web.Response:
    return _json(404, {"error": "no such control; GET /_control lists them with their methods"})


def _json(status: int, value: Any) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def _decode(body: bytes, kind: type[BodyT]) -> BodyT:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SandboxInputError(f"not what this control takes: {error}") from None


def _advance(clock: SandboxClock, body: bytes) -> Mapping[str, Any]:
    clock.advance(_decode(body, _Advance).seconds)
    return {"now": clock.now()}


def _put_lab(lod: LodSimulator, body: bytes) -> Mapping[str, Any]:
    fields = _decode(body, dict[str, Any])
    lab_id = fields.pop("id", None)
    if not isinstance(lab_id, int) or isinstance(lab_id, bool):
        raise SandboxInputError("id must be an integer")
    lod.put(lab_id, **fields)
    return {"id": lab_id}


def _put_session(learnosity: LearnositySimulator, body: bytes) -> Mapping[str, Any]:
    fields = _decode(body, dict[str, Any])
    session_id = fields.pop("session_id", None)
    if not isinstance(session_id, str):
        raise SandboxInputError("session_id must be a text")
    learnosity.put(session_id, **fields)
    return {"session_id": session_id}


def _remove_lab(lod: LodSimulator, body: bytes) -> Mapping[str, Any]:
    lab_id = _decode(body, _RemoveLab).id
    lod.remove(lab_id)
    return {"id": lab_id}


def _remove_session(learnosity: LearnositySimulator, body: bytes) -> Mapping[str, Any]:
    session_id = _decode(body, _RemoveSession).session_id
    learnosity.remove(session_id)
    return {"session_id": session_id}


def _set_fault(simulator: Simulator, body: bytes) -> Mapping[str, Any]:
    """Set the standing fault, or with `times` one for the next requests only."""
    wanted = _decode(body, _Fault)
    if wanted.times is None:
        simulator.fault = wanted.fault
    elif wanted.fault is None:
        raise SandboxInputError("times needs a fault")
    else:
        simulator.fault_next(wanted.fault, wanted.times)
    return {"fault": wanted.fault, "times": wanted.times}


def _set(simulator: Simulator, kind: type[_Struct], body: bytes) -> Mapping[str, Any]:
    given: dict[str, Any] = msgspec.to_builtins(_decode(body, kind))
    for name, value in given.items():
        setattr(simulator, name, value)
    return given
