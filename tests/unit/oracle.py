"""The event table of the public contract, written a second time: which types a pair of observed states must give.

It shares nothing with the code under test but the names of the types.
"""

from tests.unit.entities import LabState, SessionState

ORDER = (
    "reassigned",
    "started",
    "engaged",
    "progressed",
    "submitted",
    "grading_started",
    "scored",
    "rescored",
    "score_cleared",
    "outcome_changed",
)
REACHED = {
    1: "cancelled",
    4: "completed",
    10: "failed.storage_provisioning",
    20: "failed.creation",
    30: "failed.resume",
    40: "failed.save",
    50: "submitted",
    60: "grading_started",
}
ENDS_AS = {2: "no_show", 3: "ended_incomplete"}


def in_order(names: list[str], family: str) -> list[str]:
    """The contract's order; whatever it does not list is terminal."""
    ranked = sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    return [f"{family}.{name}" for name in ranked]


def lab_types(old: LabState | None, new: LabState, *, progress: bool = False) -> list[str]:
    """Types for a lab that was last seen as `old`."""
    runs = new.status in ENDS_AS and new.end is None
    here = ENDS_AS.get(new.status) or REACHED.get(new.status, "status_changed")
    if old is None:
        return in_order(["started" if runs else here], "lab")
    names = []
    if (old.user, old.class_id) != (new.user, new.class_id):
        names.append("reassigned")
    if progress and old.percent is not None and new.percent is not None and new.percent > old.percent:
        names.append("progressed")
    names += _score(old.score, new.score)
    if (old.passed, new.passed) in ((True, False), (False, True)):
        names.append("outcome_changed")
    return in_order(names + _lab_status(old, new, here, runs=runs), "lab")


def _score(old: float | None, new: float | None) -> list[str]:
    match old, new:
        case None, None:
            return []
        case None, _:
            return ["scored"]
        case _, None:
            return ["score_cleared"]
    return ["rescored"] if old != new else []


def _lab_status(old: LabState, new: LabState, here: str, *, runs: bool) -> list[str]:
    if runs:
        if old.end is not None or old.status in (1, 4, 10, 20, 30, 40):
            return ["reopened"]
        if old.status == new.status:
            return []
        return ["engaged"] if (old.status, new.status) == (2, 3) else ["status_changed"]
    if old.status != new.status:
        return [here]
    ended_now = new.status in ENDS_AS and old.end is None
    return [here] if ended_now else []


SESSION_MOVES = {
    "Incomplete": {"Pending Scoring": "submitted"},
    "Completed": {"Incomplete": "reopened", "Pending Scoring": "resubmitted"},
    "Pending Scoring": {"Incomplete": "reopened"},
    "Discarded": {"Incomplete": "reinstated", "Completed": "reinstated"},
}
SESSION_REACHED = {"Completed": "completed", "Discarded": "discarded"}
SESSION_FIRST = {"Incomplete": "started", "Pending Scoring": "submitted"}


def session_types(old: SessionState | None, new: SessionState, *, progress: bool = False) -> list[str]:
    """Types for a session that was last seen as `old`."""
    reached = SESSION_REACHED.get(new.status, "status_changed")
    if old is None:
        return in_order([SESSION_FIRST.get(new.status, reached)], "session")
    names = []
    if progress and old.attempted is not None and new.attempted is not None and new.attempted > old.attempted:
        names.append("progressed")
    if old.status != new.status:
        names.append(SESSION_MOVES.get(old.status, {}).get(new.status, reached))
    elif new.status == "Completed" and None not in (old.completed, new.completed) and old.completed != new.completed:
        names.append("resubmitted")
    return in_order(names, "session")
