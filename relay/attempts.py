"""One attempt: prepare → POST → decide, told in one wide log line."""

import random
from collections.abc import Sequence
from datetime import datetime

import structlog

from relay.clock import Clock
from relay.core.envelope import Receiver, SigningKey, body_for, headers_for
from relay.core.keyring import Keyring
from relay.core.log import Attempt, Entry
from relay.core.outcome import Outcome
from relay.core.retry import Verdict, decide
from relay.core.signing import secret_key
from relay.core.subscriber import Subscriber
from relay.egress import Sender
from relay.telemetry import Metrics

BODY_KEPT = 1024

log = structlog.get_logger()


def open_receiver(subscriber: Subscriber, keyring: Keyring) -> Receiver:
    """A subscriber with its keys in the clear; raises `UnreadableSecretError`."""
    keys = [
        SigningKey(
            secret_key(keyring.open(secret.sealed, subscriber.id)),
            datetime.fromisoformat(secret.until) if secret.until else None,
        )
        for secret in subscriber.secrets
    ]
    return Receiver(subscriber, keys)


class Attempter:
    """Makes attempts and says what follows from them; it writes nothing to the store."""

    def __init__(
        self,
        sender: Sender,
        clock: Clock,
        metrics: Metrics,
        rng: random.Random,
        *,
        schedule_s: Sequence[float],
        agent: str,
    ) -> None:
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._rng = rng
        self._schedule_s = schedule_s
        self._agent = agent

    def schedule_of(self, subscriber: Subscriber) -> Sequence[float]:
        """Delays after attempt 1, 2, … in seconds."""
        return subscriber.retry_schedule_s or self._schedule_s

    async def attempt(self, receiver: Receiver, entry: Entry, attempt_no: int, *, retries: bool = True) -> Attempt:
        """POST once; the answer holds the verdict and, for a retry, when it is due (`retries` False: never)."""
        subscriber = receiver.subscriber
        body = body_for(receiver, entry)
        started = self._clock.now()
        headers = headers_for(receiver, entry.event_id, body, started, self._agent)
        self._metrics.in_flight.inc()
        try:
            reply = await self._sender.post(subscriber.url, headers, body, timeout_s=subscriber.timeout_s)
        finally:
            self._metrics.in_flight.dec()
        schedule = self.schedule_of(subscriber) if retries else ()
        decision = decide(reply, attempt_no, schedule, self._rng.random())
        started_ms = int(started.timestamp() * 1000)
        due = decision.verdict is Verdict.RETRY
        attempt = Attempt(
            subscriber.id,
            str(entry.place),
            entry.event_id,
            entry.event_type,
            attempt_no,
            started_ms,
            reply.duration_ms,
            reply.outcome,
            reply.status,
            decision.verdict,
            started_ms + reply.duration_ms + int(decision.delay_s * 1000) if due else None,
            reply.detail,
            b"" if reply.outcome is Outcome.DELIVERED else reply.body[:BODY_KEPT],
        )
        self._tell(attempt, decision.delay_s if due else None)
        return attempt

    def _tell(self, attempt: Attempt, delay_s: float | None) -> None:
        self._metrics.attempt_seconds.labels(attempt.outcome).observe(attempt.duration_ms / 1000)
        if attempt.verdict == Verdict.DEAD:
            self._metrics.dead.inc()
        log.info(
            "delivery.attempted",
            event_id=attempt.event_id,
            type=attempt.event_type,
            subscriber=attempt.subscriber_id,
            attempt_no=attempt.attempt_no,
            outcome=attempt.outcome,
            status=attempt.status,
            verdict=attempt.verdict,
            duration_ms=attempt.duration_ms,
            retry_in_s=None if delay_s is None else round(delay_s, 1),
            detail=attempt.detail,
        )
