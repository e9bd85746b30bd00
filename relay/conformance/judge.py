"""What answers mean: pure, from replies to a row of the table.

The invariant: a row passes only if every answer is what was expected, and each failure comes with what to change. Of an
answer only its status and time are shown, never its body.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from relay.conformance.checks import Check, Expectation
from relay.conformance.forge import Webhook
from relay.core.outcome import Outcome, Reply

SLOW_S: Final = 5.0
_TOO_MANY: Final = 429
_GONE: Final = 410
_CLIENT_ERRORS: Final = range(400, 500)
_SERVER_ERRORS: Final = range(500, 600)
_SUCCESS: Final = range(200, 300)
_SHOWN: Final = 3
"""Labels that a row names at most."""


class Verdict(StrEnum):
    """What a row says."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    """Not examined, because an earlier row failed."""


@dataclass(frozen=True, slots=True)
class Result:
    """One row."""

    name: str
    sent: str
    verdict: Verdict
    seen: str
    mend: str = ""
    remark: str = ""


def judge(check: Check, webhooks: Sequence[Webhook], replies: Sequence[Reply]) -> Result:
    """Judge the answers to a check's webhooks, which are in the same order."""
    good = [_is_good(check.expected, reply) for reply in replies]
    if all(good):
        return Result(check.name, check.sends, Verdict.PASS, _summary(replies), remark=check.remark)
    bad = [(webhook, reply) for webhook, reply, fine in zip(webhooks, replies, good, strict=True) if not fine]
    limited = check.expected is Expectation.REFUSE and all(reply.status == _TOO_MANY for _, reply in bad)
    verdict = Verdict.WARN if limited else Verdict.FAIL
    return Result(check.name, check.sends, verdict, _seen(bad, len(replies)), _mend(check, bad[0][1]))


def judge_speed(replies: Sequence[Reply], timeout_s: float, slow_s: float = SLOW_S) -> Result:
    """Judge how soon answers begin; the replies are those to webhooks that were sent one at a time."""
    slowest_s = max((reply.first_byte_ms or reply.duration_ms) / 1000 for reply in replies)
    verdict = Verdict.PASS if slowest_s < slow_s else Verdict.WARN
    seen = f"first byte after {slowest_s:.3f} s at the slowest"
    mend = (
        "" if verdict is Verdict.PASS else f"queue the work, then answer: an attempt is given up after {timeout_s:g} s"
    )
    return Result("quick", "(the time of all genuine webhooks)", verdict, seen, mend)


def judge_get(status: int | None) -> Result:
    """Judge the answer to a GET, which the relay never sends: never a failure."""
    refused = status in _CLIENT_ERRORS
    return Result(
        "get",
        "a GET, which the relay never sends",
        Verdict.PASS if refused else Verdict.WARN,
        f"HTTP {status}" if status else "no answer",
        "" if refused else "not required, but 405 (Method Not Allowed) is the plain answer to anything but POST",
    )


def skipped(check: Check, because: str) -> Result:
    """A row that was not examined."""
    return Result(check.name, check.sends, Verdict.SKIP, because)


def _is_good(expected: Expectation, reply: Reply) -> bool:
    if expected is Expectation.ACCEPT:
        return reply.outcome is Outcome.DELIVERED
    return reply.status in _CLIENT_ERRORS and reply.status != _TOO_MANY


def _summary(replies: Sequence[Reply]) -> str:
    counted = Counter(_text(reply) for reply in replies)
    return ", ".join(text if number == 1 else f"{number}x {text}" for text, number in counted.items())


def _seen(bad: Sequence[tuple[Webhook, Reply]], total: int) -> str:
    if total == 1:
        return _text(bad[0][1])
    named = [f"{_text(reply)} ({webhook.label})" for webhook, reply in bad[:_SHOWN]]
    more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return f"{', '.join(named)}{more}"


def _text(reply: Reply) -> str:
    return f"HTTP {reply.status}" if reply.status else reply.detail


def _mend(check: Check, reply: Reply) -> str:
    """What to change: what the answer itself says, and what the check is about."""
    if check.expected is Expectation.REFUSE:
        return _mend_refusal(check, reply)
    if reply.outcome is Outcome.REDIRECT:
        return "subscribe with the URL that it redirects to: redirects are never followed"
    if reply.outcome is Outcome.TIMEOUT:
        return f"queue the work, answer, then do it; {check.mend}"
    if reply.status == _TOO_MANY:
        return "raise its limit, or set the subscriber's rate_per_s and max_in_flight below it"
    if reply.status == _GONE:
        return f"410 disables a subscriber at once, so keep it for the end of a receiver's life; {check.mend}"
    if reply.status in _SERVER_ERRORS:
        return f"it broke: its own log says where; {check.mend}"
    return check.mend


def _mend_refusal(check: Check, reply: Reply) -> str:
    if reply.status in _SUCCESS:
        return check.mend
    if reply.status == _TOO_MANY:
        return "it limits its rate, so this cannot be told: raise the limit and run this again"
    return f"refuse it on purpose, with 400 or 401, rather than by an error or a redirect; {check.mend}"
