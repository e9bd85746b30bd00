"""In words: which difference between two sights of an entity makes which event. The code of it is in lab and session.

Statuses are named as the upstreams name them; LOD's numbers are those of its LatestResults page.
"""

from collections.abc import Mapping

_FAILED = "CompletionStatus became {} ({})"

RULES: Mapping[str, str] = {
    "lab.started": "seen for the first time, and open: CompletionStatus 2 or 3 without End",
    "lab.engaged": "CompletionStatus went from 2 (No Show) to 3 (Incomplete), without End",
    "lab.submitted": "CompletionStatus became 50 (Submitted For Grading)",
    "lab.grading_started": "CompletionStatus became 60 (Grading In Progress)",
    "lab.completed": "CompletionStatus became 4 (Complete)",
    "lab.ended_incomplete": "End was set, or an ended lab changed, with CompletionStatus 3 (Incomplete)",
    "lab.no_show": "End was set, or an ended lab changed, with CompletionStatus 2 (No Show)",
    "lab.cancelled": "CompletionStatus became 1 (Cancelled)",
    "lab.failed.storage_provisioning": _FAILED.format(10, "Storage Provisioning Failed"),
    "lab.failed.creation": _FAILED.format(20, "Lab Creation Failed"),
    "lab.failed.resume": _FAILED.format(30, "Resume Failed"),
    "lab.failed.save": _FAILED.format(40, "Save Failed"),
    "lab.reopened": "it was over (cancelled, complete, failed, or with End) and is open again",
    "lab.scored": "ExamScore went from null to a value",
    "lab.rescored": "ExamScore went from a value to another one, compared as numbers",
    "lab.score_cleared": "ExamScore went from a value to null",
    "lab.outcome_changed": "ExamPassed flipped between true and false",
    "lab.reassigned": "UserId or ClassId changed",
    "lab.status_changed": "CompletionStatus changed in a way for which there is no other type",
    "lab.progressed": "TaskCompletePercent rose (the source has `progress` on)",
    "session.started": "seen for the first time with status Incomplete",
    "session.submitted": "status went from Incomplete to Pending Scoring, or was that at first sight",
    "session.completed": "status became Completed",
    "session.discarded": "status became Discarded",
    "session.reopened": "status went from Completed or Pending Scoring to Incomplete",
    "session.reinstated": "status went from Discarded to Incomplete or Completed",
    "session.resubmitted": "Completed came again with another dt_completed, or went to Pending Scoring",
    "session.status_changed": "status changed in a way for which there is no other type",
    "session.progressed": "num_attempted rose (the source has `progress` on)",
    "relay.test": "a test was asked for",
    "relay.source.degraded": "three polls of the source failed in a row",
    "relay.source.recovered": "a poll of the source that was degraded succeeded",
    "relay.source.gap": "an outage outlived what the upstream still shows",
    "relay.subscriber.failing": "no attempt succeeded for RELAY_RETRY__NOTICE_AFTER_S",
    "relay.subscriber.disabled": "disabled by hand, by an answer of 410, or after RELAY_RETRY__DISABLE_AFTER_S in vain",
    "relay.subscriber.recovered": "an attempt succeeded after failing was told of, or it was enabled by hand",
}

_AT_ONCE = "seen for the first time, and like this already: nothing is told of what may have been before; otherwise, "


def rule_for(event_type: str, *, first_seen: bool) -> str:
    """The rule that made an event of this type."""
    rule = RULES.get(event_type, "made by another version of the relay")
    return _AT_ONCE + rule if first_seen and not event_type.endswith(".started") else rule
