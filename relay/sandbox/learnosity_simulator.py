"""The simulated Learnosity Data API, `sessions/statuses` only: its state and its faults. It knows no HTTP server.

Faithful to the vendor's pages and to what integrators measured: paging ends with an empty page that repeats the
token, `limit` above 50 means 50, and an update may become visible later than the clock says it happened.
"""

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from relay.clock import Clock
from relay.sandbox import learnosity_rows
from relay.sandbox.answers import DOOR_FAULTS, SPOILING_FAULTS, Answer, FaultPlan, SandboxInputError, spoil
from relay.sandbox.learnosity_query import Query, Session, micros, parse_query, select_page
from relay.sandbox.learnosity_security import ERRORS, RATE_LIMITED, RefusedError, check_security, refusal

LEARNOSITY_VERSION = "v2025.1.LTS"
ENDPOINT = "sessions/statuses"
LIVE_VERSIONS = frozenset({"2023", "2024", "2025", "2026"})
RATE_WINDOW_S = 5.0
MAX_REQUESTS = 1000
MAX_LAG_S = 600.0

EXAMPLE = Session(
    "c67687d8-cd2a-41e1-a3a3-769f334833b1", 0, {**learnosity_rows.DEFAULTS, "dt_started": "2016-07-27T00:31:45Z"}
)
"""The vendor's own row whose duration is not JSON."""

ROW_FAULTS = frozenset({"empty", "bad_row", "numeric_strings", "unknown_status", "vendor_json", "200_status_false"})
REDIRECT = Answer(301, b"", "text/html", {"Location": f"/learnosity/{LEARNOSITY_VERSION}/{ENDPOINT}"})
OWN_DOOR_FAULTS = {**DOOR_FAULTS, "301": REDIRECT, "404_text": Answer(404, b"404 page not found\n", "text/plain")}
CODE_FAULTS = {"429": RATE_LIMITED, **{str(code): code for code in ERRORS}}
FAULTS = frozenset({*OWN_DOOR_FAULTS, *SPOILING_FAULTS, *ROW_FAULTS, *CODE_FAULTS})

Sessions = Mapping[str, Session]


@dataclass(frozen=True, slots=True)
class LearnosityRequest:
    """One request as it was seen; neither the security packet nor the ids of learners get in here."""

    at: datetime
    method: str
    path: str
    request: Mapping[str, Any]
    """The windows and paging that were asked for; of filters only their sizes."""
    routing_headers: tuple[str, ...]
    code: int | None
    """The vendor's code of the refusal, if there was one."""
    fault: str | None


class LearnositySimulator:
    """One consumer's view of the Data API. Set the public attributes to change how the vendor behaves.

    `scripted` gives the sessions that exist by themselves, as they were at a time.
    """

    def __init__(self, clock: Clock, scripted: Callable[[datetime], Sessions] = lambda _: {}) -> None:
        self.clock = clock
        self.read_lag_s = 0.0
        self.rate_limit = 1000
        self.inclusive = True
        self.disabled: int | None = None
        self.on_page: Callable[[int], None] | None = None
        self.requests: list[LearnosityRequest] = []
        self._faults = FaultPlan(FAULTS)
        self._versions: dict[str, list[Session]] = {}
        self._removed: set[str] = set()
        self._accepted: deque[float] = deque()
        self._page_no = 0
        self._scripted = scripted

    @property
    def fault(self) -> str | None:
        """What goes wrong with every request; None: nothing. Setting it forgets what `fault_next` queued."""
        return self._faults.standing

    @fault.setter
    def fault(self, name: str | None) -> None:
        self._faults.standing = name

    def fault_next(self, name: str, times: int = 1) -> None:
        """Let a fault happen to the next `times` requests only."""
        self._faults.queue(name, times)

    def put(self, /, session_id: str, *, updated_at: datetime | float | str | None = None, **fields: Any) -> None:
        """Create or change one session with the vendor's field names; updated now unless `updated_at` is given.

        An `updated_at` in the future keeps the change invisible until then.
        """
        now = self.clock.now()
        changes = learnosity_rows.read_fields(fields, now)
        updated = now if updated_at is None else learnosity_rows.read_time(updated_at, "updated_at")
        if not session_id:
            raise SandboxInputError("session_id must not be empty")
        versions = self._versions.setdefault(session_id, [])
        if not versions and session_id not in self._removed:
            versions += filter(None, [self._scripted(now).get(session_id)])
        known = versions[-1].fields if versions else None
        self._removed.discard(session_id)
        versions.append(Session(session_id, micros(updated), learnosity_rows.change(known, changes, now)))
        self._forget(versions, now)

    def remove(self, session_id: str) -> None:
        """Forget a session at once, without a signal."""
        self._versions.pop(session_id, None)
        self._removed.add(session_id)

    def answer(self, method: str, path: str, form: Mapping[str, str], routing_headers: tuple[str, ...] = ()) -> Answer:
        """Answer one request. `path` follows the server's name; `form` holds the decoded text fields."""
        fault = self._faults.take()
        code = None
        try:
            answer = self._door(fault) or self._routed(method, path, form, fault)
        except RefusedError as error:
            code = error.code
            answer = refusal(code, str(error))
        seen = LearnosityRequest(
            self.clock.now(), method, path, _outline(form.get("request")), routing_headers, code, fault
        )
        self.requests.append(seen)
        del self.requests[:-MAX_REQUESTS]
        return spoil(answer, fault)

    def _door(self, fault: str | None) -> Answer | None:
        if fault in CODE_FAULTS:
            raise RefusedError(CODE_FAULTS[fault])
        return OWN_DOOR_FAULTS.get(fault or "")

    def _routed(self, method: str, path: str, form: Mapping[str, str], fault: str | None) -> Answer:
        version, _, endpoint = path.strip("/").removeprefix("learnosity").strip("/").partition("/")
        if not _is_version(version):
            return OWN_DOOR_FAULTS["404_text"]
        if method != "POST":
            return Answer(405, b"", "text/html", {"Allow": "POST"})
        if endpoint.strip("/") != ENDPOINT:
            raise RefusedError(20012)
        now = self.clock.now()
        check_security(form, now, self.disabled)
        self._check_rate()
        _check_action(form.get("action"))
        query = parse_query(form.get("request"))
        return self._page(query, now, version, fault)

    def _check_rate(self) -> None:
        """1000 requests in 5 s per endpoint and consumer; the sandbox has one of each."""
        now_s = self.clock.monotonic()
        while self._accepted and now_s - self._accepted[0] >= RATE_WINDOW_S:
            self._accepted.popleft()
        if len(self._accepted) >= self.rate_limit:
            raise RefusedError(RATE_LIMITED)
        self._accepted.append(now_s)

    def _page(self, query: Query, now: datetime, version: str, fault: str | None) -> Answer:
        sessions = [] if fault == "empty" else self._visible(now)
        chosen = select_page(sessions, query, inclusive=self.inclusive)
        meta: dict[str, Any] = {
            "status": True,
            "timestamp": int(now.timestamp()),
            "versions": {"requested": version, "mapped": version, "concrete": version},
            "records": len(chosen),
        }
        token = chosen[-1].token if chosen else query.token
        if token is not None:
            meta["next"] = token
        answer = _spoiled_rows({"meta": meta, "data": []}, chosen, query.metadata, fault)
        self._page_no = 1 if query.token is None else self._page_no + 1
        if self.on_page is not None:
            self.on_page(self._page_no)
        return answer

    def _visible(self, now: datetime) -> list[Session]:
        """Every session as a reader sees it: what was updated within the lag is not there yet."""
        seen_at = now - timedelta(seconds=self.read_lag_s)
        sessions = dict(self._scripted(seen_at))
        until_us = micros(seen_at)
        for session_id, versions in self._versions.items():
            visible = [version for version in versions if version.updated_us <= until_us]
            if visible:
                sessions[session_id] = visible[-1]
        return [session for session in sessions.values() if session.session_id not in self._removed]

    def _forget(self, versions: list[Session], now: datetime) -> None:
        """Drop the states that no read lag can show any more."""
        oldest_us = micros(now - timedelta(seconds=MAX_LAG_S))
        while len(versions) > 1 and versions[1].updated_us <= oldest_us:
            del versions[0]


def _is_version(version: str) -> bool:
    """Tell a live version from an unknown one; raises `RefusedError` for one that is gone or too old."""
    if version in ("latest-lts", "developer"):
        return True
    if re.fullmatch(r"v[01](\.\d+)*", version):
        raise RefusedError(43000)
    match = re.fullmatch(r"v(20\d\d)\.\d\.(LTS|preview\d)", version)
    if match and match[1] < min(LIVE_VERSIONS):
        raise RefusedError(42001)
    return bool(match and match[1] in LIVE_VERSIONS)


def _check_action(action: str | None) -> None:
    if action is None:
        raise RefusedError(20000, "action")
    if action != "get":
        raise RefusedError(20004, "action")


def _spoiled_rows(
    answer: dict[str, Any], chosen: list[Session], metadata: tuple[str, ...], fault: str | None
) -> Answer:
    """Write a page; `fault` may be one of `ROW_FAULTS`."""
    if fault == "200_status_false":
        return replace(refusal(10000), status=200)
    if fault == "vendor_json":
        chosen = chosen or [EXAMPLE]
    rows = [learnosity_rows.render(session, metadata) for session in chosen]
    if fault == "bad_row":
        rows.append({"session_id": None, "status": 4})
    if fault == "unknown_status" and rows:
        rows[0]["status"] = "Archived"
    if fault == "numeric_strings":
        rows = [{name: str(v) if isinstance(v, int) else v for name, v in row.items()} for row in rows]
    body = msgspec.json.encode({**answer, "data": rows})
    if fault == "vendor_json":
        body = re.sub(rb'"session_duration":\d+', b'"session_duration": ', body, count=1)
    return Answer(200, body)


def _outline(request: str | None) -> dict[str, Any]:
    """What a request asked for, without the ids in its filters."""
    try:
        fields = msgspec.json.decode(request or "")
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return {}
    if not isinstance(fields, dict):
        return {}
    return {
        name: len(value) if isinstance(value, list) else value
        for name, value in fields.items()
        if name != "meta" and (isinstance(value, list) or not name.endswith("_id"))
    }
