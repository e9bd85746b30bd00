"""What an attempt counts and keeps, without a network."""

import random
from collections.abc import Mapping
from typing import cast

import pytest

from relay.attempts import Attempter, open_receiver
from relay.clock import SystemClock
from relay.core.keyring import NONCE_BYTES, Keyring
from relay.core.log import START, Entry
from relay.core.outcome import Outcome, Reply
from relay.core.retry import Verdict
from relay.core.subscriber import StoredSecret, Subscriber
from relay.egress import Sender
from relay.telemetry import Metrics

KEYRING = Keyring([b"k" * 32])
SEALED = KEYRING.seal("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "sub_1", b"1" * NONCE_BYTES)
SUBSCRIBER = Subscriber(id="sub_1", url="https://lms.example.org/", secrets=(StoredSecret(sealed=SEALED),))
ENTRY = Entry(START, "evt_1", "lab.completed", "lod", "1", b"{}" + b" " * 98, b"")


class Refusing:
    """A sender whose subscriber always answers 500."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float) -> Reply:
        """Record and refuse."""
        assert url == SUBSCRIBER.url
        assert headers["webhook-signature"].startswith("v1,")
        assert timeout_s == SUBSCRIBER.timeout_s
        self.sent.append(body)
        return Reply(Outcome.STATUS, 500)


def attempter(sender: Refusing, metrics: Metrics, limit: int = 100) -> Attempter:
    """Build one that retries once."""
    rng = random.Random(1)
    return Attempter(
        cast("Sender", sender),
        SystemClock(),
        metrics,
        rng,
        schedule_s=(5,),
        agent="relay/test",
        max_payload_bytes=limit,
    )


@pytest.mark.parametrize(("attempt_no", "retries", "dead"), [(1, True, 0), (2, True, 1), (1, False, 0), (2, False, 0)])
async def test_only_a_delivery_that_is_given_up_counts_as_a_dead_letter(
    attempt_no: int, retries: object, dead: int
) -> None:
    """A test that fails is nobody's delivery, and a retry is still to come."""
    metrics = Metrics()
    made = attempter(Refusing(), metrics)
    receiver = open_receiver(SUBSCRIBER, KEYRING)
    await (made.attempt(receiver, ENTRY, attempt_no) if retries else made.test(receiver, ENTRY))
    assert metrics.registry.get_sample_value("relay_dead_letters_total") == dead
    assert metrics.registry.get_sample_value("relay_attempt_seconds_count", {"outcome": "status"}) == 1
    assert metrics.registry.get_sample_value("relay_attempts_in_flight") == 0


async def test_a_body_beyond_the_limit_never_reaches_the_sender() -> None:
    """Dead at the first attempt, with a reason that holds sizes and nothing of the body."""
    sender, metrics = Refusing(), Metrics()
    attempt, _ = await attempter(sender, metrics, limit=99).attempt(open_receiver(SUBSCRIBER, KEYRING), ENTRY, 1)
    assert (attempt.outcome, attempt.verdict, attempt.next_ms) == (Outcome.TOO_LARGE, Verdict.DEAD, None)
    assert "100 bytes, the limit is 99" in attempt.detail
    assert sender.sent == []
    assert metrics.registry.get_sample_value("relay_dead_letters_total") == 1
