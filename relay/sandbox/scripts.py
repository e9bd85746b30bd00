"""The lives that scripted labs and sessions lead: every kind of change that the relay knows occurs in them.

A script is a sequence of (seconds after the start, changed fields). Steps are at least 4 s apart, so that somebody who
polls every 2 s sees each of them. `AT` stands for the time of its step, `At(-40)` for 40 s before it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class At(NamedTuple):
    """A time relative to its step."""

    delta_s: int = 0


AT = At()

Step = tuple[int, Mapping[str, Any]]
Script = tuple[Step, ...]


def _lab(offset_s: int, status: int | None = None, **fields: Any) -> Step:
    return offset_s, fields if status is None else {"CompletionStatus": status, **fields}


def _exam(score: int | None, *, passed: bool | None) -> dict[str, Any]:
    scored = score is not None
    return {
        "ExamScore": score,
        "ExamPassed": passed,
        "ExamMaxPossibleScore": 100 if scored else None,
        "ExamPassingScore": 70 if scored else None,
    }


LAB_SCRIPTS: tuple[Script, ...] = (
    # A lab as it should be: nobody there, engaged, tasks done, complete.
    (_lab(0, 2), _lab(6, 3), _lab(14, TaskCompletePercent=40), _lab(22, TaskCompletePercent=90), _lab(30, 4, End=AT)),
    # An exam graded by a person after it ended, regraded below the mark, its score withdrawn.
    (
        _lab(0, 3, IsExam=True),
        _lab(8, 50),
        _lab(14, 60),
        _lab(20, 4, End=AT),
        _lab(28, **_exam(80, passed=True)),
        _lab(38, **_exam(65, passed=False)),
        _lab(48, **_exam(None, passed=None)),
    ),
    (_lab(0, 2), _lab(20, End=AT)),
    (_lab(0, 2), _lab(6, 3, TaskCompletePercent=10), _lab(24, End=AT)),
    (_lab(0, 2), _lab(8, 1, End=AT)),
    (_lab(0, 2), _lab(6, 10, End=AT)),
    (_lab(0, 2), _lab(7, 20, End=AT)),
    # Resuming fails, then works.
    (_lab(0, 3), _lab(10, 30), _lab(20, 3), _lab(32, 4, End=AT)),
    (_lab(0, 3), _lab(12, 40, End=AT)),
    # Transferred to another learner; later that learner's account is closed.
    (
        _lab(0, 3, UserId="learner-03", ClassId="class-networks-a"),
        _lab(9, UserId="learner-17"),
        _lab(18, 4, End=AT),
        _lab(30, UserId=None),
    ),
    # A status that the vendor has not named yet.
    (_lab(0, 3), _lab(8, 70), _lab(16, 3), _lab(26, 4, End=AT)),
    # Ended, reopened by support, ended again.
    (_lab(0, 3), _lab(10, 4, End=AT), _lab(20, 3, End=None), _lab(34, 4, End=AT)),
    # First seen when it is over.
    (_lab(0, 4, Start=At(-240), End=AT, TaskCompletePercent=100),),
    # Scored by a machine with its end; the mark is raised later and the outcome with it.
    (
        _lab(0, 3, IsExam=True),
        _lab(12, 4, End=AT, TaskCompletePercent=100, **_exam(68, passed=False)),
        _lab(26, **_exam(72, passed=True)),
    ),
    (_lab(0, 2), _lab(5, 3), _lab(12, TaskCompletePercent=50), _lab(40, 4, End=AT, TaskCompletePercent=100)),
)


def _session(offset_s: int, status: str | None = None, **fields: Any) -> Step:
    return offset_s, fields if status is None else {"status": status, **fields}


OPEN, DONE, GONE, PENDING = "Incomplete", "Completed", "Discarded", "Pending Scoring"

SESSION_SCRIPTS: tuple[Script, ...] = (
    (_session(0, OPEN), _session(6, num_attempted=3), _session(12, num_attempted=8), _session(20, DONE)),
    # Scored by a person or a machine before it counts.
    (_session(0, OPEN), _session(8, num_attempted=10), _session(14, PENDING), _session(26, DONE)),
    (_session(0, OPEN), _session(12, GONE)),
    # Discarded by mistake: reinstated and finished, or reinstated as finished.
    (_session(0, OPEN), _session(8, GONE), _session(18, OPEN), _session(28, DONE)),
    (_session(0, OPEN), _session(8, DONE), _session(16, GONE), _session(26, DONE)),
    # Handed in again: completed at another time, or sent to scoring once more.
    (_session(0, OPEN), _session(8, DONE), _session(20, DONE, dt_completed=AT)),
    (_session(0, OPEN), _session(8, DONE), _session(16, PENDING), _session(26, DONE)),
    (_session(0, OPEN), _session(8, DONE), _session(18, OPEN), _session(28, DONE)),
    # A status that the vendor has not documented.
    (_session(0, OPEN), _session(10, "Under Review"), _session(20, DONE)),
    # First seen when it is over.
    (_session(0, DONE, dt_started=At(-300), num_attempted=10),),
)
