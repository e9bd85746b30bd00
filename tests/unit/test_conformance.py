"""The examination's webhooks: what is genuine, what is not, and by how much; and how odd answers are judged."""

import json
import time
from typing import Any

import pytest
import standardwebhooks

from relay.conformance.checks import CHECKS, VALID, Check, Expectation, checks_for
from relay.conformance.forge import Forge, Webhook
from relay.conformance.judge import Verdict, judge
from relay.core.envelope import MAX_PAYLOAD_BYTES
from relay.core.outcome import Outcome, Reply
from relay.core.signing import format_secret, signing_key

KEY = bytes(range(32))
ALL = {check.name: check for check in (VALID, *CHECKS)}
GENUINE = [check for check in ALL.values() if check.expected is Expectation.ACCEPT]
FORGED = [check for check in ALL.values() if check.expected is Expectation.REFUSE]


def forge() -> Forge:
    """One examination's."""
    return Forge(KEY, bytes(32), "run", time.time)


def verify(webhook: Webhook) -> Any:
    """Ask the independent library."""
    return standardwebhooks.Webhook(format_secret(KEY)).verify(webhook.body, dict(webhook.headers))


@pytest.mark.parametrize("check", GENUINE, ids=lambda check: str(check.name))
def test_what_must_be_accepted_verifies_with_the_independent_library(check: Check) -> None:
    """A receiver that refuses it is wrong, not we; and no body is larger than what the relay sends."""
    for webhook in check.make(forge()):
        [named] = [text for name, text in webhook.headers.items() if name.lower() == "webhook-id"]
        assert verify(webhook)["data"]["event_id"] == named
        assert len(webhook.body) <= MAX_PAYLOAD_BYTES


@pytest.mark.parametrize("check", FORGED, ids=lambda check: str(check.name))
def test_what_must_be_refused_does_not_verify_with_the_independent_library(check: Check) -> None:
    """A receiver that accepts it is wrong, not we."""
    for webhook in check.make(forge()):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            verify(webhook)
        json.loads(webhook.body)


def test_the_changed_body_is_as_long_as_the_genuine_one() -> None:
    """Its content differs in one word, so neither length nor syntax gives it away."""
    one, other = ALL["tampered-body"].make(forge())[0], forge().genuine()
    assert len(one.body) == len(other.body)
    assert one.body.replace(b'"Compleat"', b'"Complete"') == other.body


def test_ids_are_new_unless_the_check_is_about_duplicates() -> None:
    """A receiver that drops duplicates sees none, within a run and between runs."""
    used = forge()
    ids = [
        webhook.headers["webhook-id"]
        for name, check in ALL.items()
        if name not in {"replayed", "retried", "missing-header", "header-case"}
        for webhook in check.make(used)
    ]
    assert len(ids) == len(set(ids))
    other = Forge(KEY, bytes(32), "another run", time.time)
    assert other.genuine().headers["webhook-id"] != forge().genuine().headers["webhook-id"]


def test_the_large_one_is_exactly_what_the_relay_sends_at_most() -> None:
    """A byte less would leave a limit undiscovered."""
    [webhook] = ALL["large"].make(forge())
    assert len(webhook.body) == MAX_PAYLOAD_BYTES


def test_no_serialiser_writes_the_awkward_bodies_as_they_are() -> None:
    """Verifying a re-serialised body cannot succeed by luck."""
    for webhook in ALL["raw-bytes"].make(forge()):
        parsed = json.loads(webhook.body)
        written = {
            json.dumps(parsed, ensure_ascii=ascii_only, separators=separators, indent=indent).encode()
            for ascii_only in (True, False)
            for separators in (None, (",", ":"))
            for indent in (None, 1, 2, 4)
        }
        assert webhook.body not in written


def test_only_a_receiver_of_public_keys_can_confuse_them() -> None:
    """With a shared secret there is no key to be taken for another."""
    private = signing_key("whsk_" + "A" * 43 + "=")
    names = {check.name for check in checks_for(Forge(private, private, "run", time.time))}
    assert names - {check.name for check in checks_for(forge())} == {"confused-key"}


def replied(status: int | None = None, outcome: Outcome = Outcome.STATUS, detail: str = "") -> Reply:
    """One answer."""
    return Reply(outcome, status, detail=detail)


@pytest.mark.parametrize(
    ("name", "reply", "verdict", "mend"),
    [
        ("stale", replied(400), Verdict.PASS, ""),
        ("stale", replied(403), Verdict.PASS, ""),
        ("stale", replied(204, Outcome.DELIVERED), Verdict.FAIL, "after the signature"),
        ("stale", replied(500), Verdict.FAIL, "on purpose"),
        ("stale", replied(302, Outcome.REDIRECT), Verdict.FAIL, "on purpose"),
        ("stale", replied(None, Outcome.TIMEOUT), Verdict.FAIL, "on purpose"),
        ("stale", replied(429), Verdict.WARN, "raise the limit"),
        ("unknown-type", replied(202, Outcome.DELIVERED), Verdict.PASS, ""),
        ("unknown-type", replied(410), Verdict.FAIL, "410 disables"),
        ("unknown-type", replied(302, Outcome.REDIRECT), Verdict.FAIL, "never followed"),
        ("unknown-type", replied(None, Outcome.TIMEOUT), Verdict.FAIL, "queue the work"),
        ("unknown-type", replied(429), Verdict.FAIL, "rate_per_s"),
        ("unknown-type", replied(500), Verdict.FAIL, "its own log"),
        ("unknown-type", replied(404), Verdict.FAIL, "unknown types"),
    ],
)
def test_an_answer_is_judged_by_what_was_to_be_expected(name: str, reply: Reply, verdict: Verdict, mend: str) -> None:
    """Only 2xx accepts; only 4xx refuses, and 429 says nothing about the webhook."""
    check = ALL[name]
    result = judge(check, check.make(forge()), [reply])
    assert result.verdict is verdict
    assert mend in result.mend


def test_of_many_failures_a_few_are_named() -> None:
    """A row stays a row."""
    check = ALL["concurrent"]
    replies = [replied(204, Outcome.DELIVERED)] * 11 + [replied(503)] * 5
    result = judge(check, check.make(forge()), replies)
    assert result.seen == "HTTP 503 (no. 12), HTTP 503 (no. 13), HTTP 503 (no. 14) and 2 more"
