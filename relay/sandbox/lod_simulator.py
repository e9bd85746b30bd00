"""The simulated Lab on Demand: its state, its commands and its faults. It knows no HTTP server.

Faithful to the vendor's pages and to what integrators measured: errors come with HTTP 200, one body holds the whole
window in no promised order, a field that nobody documented is always there, and by default a row is in the
window only because the lab started or ended in it, not because it changed.
"""

import hmac
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import Any

import msgspec

from relay.clock import Clock
from relay.sandbox import lod_rows
from relay.sandbox.answers import DOOR_FAULTS, SPOILING_FAULTS, Answer, FaultPlan, SandboxInputError, page, spoil
from relay.sandbox.lod_rows import WEEK_S, Lab, Selection

LOD_API_KEY = "6f1c2a34-5b7d-4e8f-9a0b-c1d2e3f40516"
MAX_MINUTES = WEEK_S // 60
MAX_REQUESTS = 1000
MAX_ID = 2**63 - 1
RUNNING_LIMIT_S = 6 * 3600

ROW_FAULTS = frozenset({"empty", "bad_row"})
ERROR_FAULTS = {"error_status_0": 0, "error_status_1": 1}
FAULTS = frozenset({*DOOR_FAULTS, *SPOILING_FAULTS, *ROW_FAULTS, *ERROR_FAULTS})

BAD_ROW = {"LabInstanceId": "not-a-number", "CompletionStatus": None, "Start": "yesterday"}

Labs = Mapping[int, Lab]


@dataclass(frozen=True, slots=True)
class LodRequest:
    """One request as it was seen; a key never gets in here, wherever the client put it."""

    at: datetime
    method: str
    path: str
    query: Mapping[str, str]
    minutes: str | None
    key_ok: bool
    fault: str | None


class LodSimulator:
    """One API consumer's view of LOD. Set the public attributes to change how the vendor behaves.

    `scripted` gives the labs that exist by themselves at a time, and `outage` the fault of that time, if any.
    """

    def __init__(
        self,
        clock: Clock,
        seed: int,
        scripted: Callable[[datetime], Labs] = lambda _: {},
        outage: Callable[[datetime], str | None] = lambda _: None,
    ) -> None:
        self.clock = clock
        self.selection: Selection = "start_or_end_in_window"
        self.duplicate_rows = False
        self.refuse_with_401 = False
        self.expired = False
        self.requests: list[LodRequest] = []
        self._faults = FaultPlan(FAULTS)
        self._labs: dict[int, Lab] = {}
        self._removed: set[int] = set()
        self._totals: dict[int, int] = {}
        self._random = Random(seed)
        self._scripted = scripted
        self._outage = outage

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

    def put(self, /, id: int, **fields: Any) -> None:  # noqa: A002  the vendor's word, and part of the public face
        """Create or change one lab instance now, with the vendor's field names; the text `now` is a time too."""
        if not 0 <= id <= MAX_ID:
            raise SandboxInputError(f"id must lie between 0 and {MAX_ID}")
        now = self.clock.now()
        changes = lod_rows.read_fields(fields, lod_rows.epoch_s(now))
        known = self._all(now).get(id)
        at_s = now.timestamp()
        self._labs[id] = lod_rows.change(known, changes, at_s) if known else lod_rows.create(changes, at_s)
        self._removed.discard(id)

    def remove(self, id: int) -> None:  # noqa: A002  as `put`
        """Forget a lab instance: no answer shows it any more, and nothing says so."""
        self._labs.pop(id, None)
        self._totals.pop(id, None)
        self._removed.add(id)

    def answer(self, method: str, path: str, parameters: Mapping[str, str], api_key: str | None) -> Answer:
        """Answer one request. `path` is what follows the server's name; it and parameter names ignore case."""
        fault = self._faults.take() or self._outage(self.clock.now())
        wanted = {name.lower(): value for name, value in parameters.items()}
        key_ok = api_key is not None and hmac.compare_digest(api_key.encode(errors="replace"), LOD_API_KEY.encode())
        self._record(method, path, wanted, key_ok=key_ok, fault=fault)
        if fault in DOOR_FAULTS:
            return DOOR_FAULTS[fault]
        refusal = self._refusal(key_ok=key_ok)
        return spoil(refusal or self._command(path, wanted, fault), fault)

    def _record(self, method: str, path: str, wanted: Mapping[str, str], *, key_ok: bool, fault: str | None) -> None:
        query = {name: "***" if "key" in name else _masked(value) for name, value in wanted.items()}
        request = LodRequest(self.clock.now(), method, _masked(path), query, query.get("minutes"), key_ok, fault)
        self.requests.append(request)
        del self.requests[:-MAX_REQUESTS]

    def _refusal(self, *, key_ok: bool) -> Answer | None:
        if not key_ok:
            refusal = _error("Invalid integration key", status=1)  # this one really says 1
        elif self.expired:
            refusal = _error("API Access has Expired")
        else:
            return None
        return replace(refusal, status=401) if self.refuse_with_401 else refusal

    def _command(self, path: str, wanted: Mapping[str, str], fault: str | None) -> Answer:
        if fault in ERROR_FAULTS:
            return _error("An unexpected error occurred", status=ERROR_FAULTS[fault])
        commands: Mapping[str, Callable[[Mapping[str, str], str | None], Answer]] = {
            "latestresults": self._latest_results,
            "results": self._results,
            "result": self._result,
            "runningandsavedlabs": self._running,
        }
        match = re.fullmatch(r"/?lod/api/v3/([a-z]+)/?", path.lower())
        command = commands.get(match[1]) if match else None
        return command(wanted, fault) if command else page(404, "404 - File or directory not found.")

    def _latest_results(self, wanted: Mapping[str, str], fault: str | None) -> Answer:
        minutes = _integer(wanted.get("minutes"))
        if minutes is None:
            return _error("The minutes parameter is required and must be an integer")
        if minutes < 1:
            return _error("Timeframe must be at least 1 minute")
        if minutes > MAX_MINUTES:
            return _error("Timeframe cannot exceed 7 days")
        now = self.clock.now()
        return self._rows(now, now.timestamp() - minutes * 60, math.inf, fault)

    def _results(self, wanted: Mapping[str, str], fault: str | None) -> Answer:
        start, end = _integer(wanted.get("start")), _integer(wanted.get("end"))
        if start is None or end is None:
            return _error("The start and end parameters are required and must be integers")
        if end < start:
            return _error("The end of the timeframe cannot precede its start")
        if end - start > WEEK_S:
            return _error("Timeframe cannot exceed 7 days")
        return self._rows(self.clock.now(), start, end, fault, score_type=float)

    def _result(self, wanted: Mapping[str, str], fault: str | None) -> Answer:
        del fault  # the faults of lists mean nothing here
        now = self.clock.now()
        lab_id = _integer(wanted.get("labinstanceid"))
        if lab_id is None:
            return _error("The labInstanceId parameter is required and must be an integer")
        lab = self._all(now).get(lab_id)
        if lab is None:
            return _error("Lab instance not found")
        row = _with_score(self._row(lab_id, lab, now), float)
        del row["LabInstanceId"]  # the vendor's answer does not repeat it
        return _json({**row, "ExamDetails": [], "Status": 1, "Error": None})

    def _running(self, wanted: Mapping[str, str], fault: str | None) -> Answer:
        del wanted, fault
        labs = self._all(self.clock.now())
        running = [_running_row(lab_id, lab) for lab_id, lab in labs.items() if lab.fields["End"] is None]
        return _json({"RunningLabs": running, "SavedLabs": [], "Status": 1, "Error": None})

    def _rows(
        self,
        now: datetime,
        first_s: float,
        last_s: float,
        fault: str | None,
        score_type: Callable[[float], float] | None = None,
    ) -> Answer:
        rows = [
            _with_score(self._row(lab_id, lab, now), score_type)
            for lab_id, lab in self._all(now).items()
            if fault != "empty" and lod_rows.is_selected(lab, self.selection, first_s, last_s)
        ]
        if self.duplicate_rows and rows:
            rows.append(self._random.choice(rows))
        if fault == "bad_row":
            rows.append(dict(BAD_ROW))
        self._random.shuffle(rows)
        return _json({"Results": rows, "Status": 1, "Error": None})

    def _row(self, lab_id: int, lab: Lab, now: datetime) -> dict[str, Any]:
        """Write one row; the running total of a lab that somebody moves by hand never falls."""
        total_s = lod_rows.run_time_s(lab, lod_rows.epoch_s(now))
        if lab_id in self._labs:
            total_s = self._totals[lab_id] = max(total_s, self._totals.get(lab_id, 0))
        return lod_rows.render(lab_id, lab, total_s)

    def _all(self, now: datetime) -> Labs:
        labs = {**self._scripted(now), **self._labs}
        for lab_id in self._removed:
            labs.pop(lab_id, None)
        return labs


def _integer(text: str | None) -> int | None:
    """Read an integer as the vendor's server does; more digits than 64 bits hold are none."""
    return int(text) if text is not None and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", text) else None


def _masked(text: str) -> str:
    return text.replace(LOD_API_KEY, "***")


def _with_score(row: dict[str, Any], score_type: Callable[[float], float] | None) -> dict[str, Any]:
    """`ExamScore` is an integer in LatestResults and a decimal in its neighbours."""
    if score_type and row["ExamScore"] is not None:
        row["ExamScore"] = score_type(row["ExamScore"])
    return row


def _running_row(lab_id: int, lab: Lab) -> dict[str, Any]:
    """Write a LabInstance of RunningAndSavedLabs, which is not a LabResult."""
    fields = lab.fields
    return {
        "Id": lab_id,
        "UserId": fields["UserId"],
        "UserFirstName": "Sandbox",
        "UserLastName": "Learner",
        "LabProfileId": fields["LabProfileId"],
        "LabProfileName": f"Lab {fields['LabProfileId']}",
        "LabProfileNumber": f"LAB{fields['LabProfileId']}",
        "Start": fields["Start"],
        "Expires": fields["Start"] + RUNNING_LIMIT_S,
        "IsExam": fields["IsExam"],
    }


def _json(value: Mapping[str, Any]) -> Answer:
    return Answer(200, msgspec.json.encode(value))


def _error(message: str, *, status: int = 0) -> Answer:
    """Build the vendor's error body: HTTP 200, and no `Results`."""
    return _json({"Error": message, "Status": status})
