"""One attempt: prepare → POST → decide, told in one wide log line."""

import random
from collections.abc import Sequence
from datetime import datetime

import structlog

from relay.clock import Clock
from relay.core.envelope import MAX_PAYLOAD_BYTES, Receiver, SigningKey, body_for, headers_for
from relay.core.keyring import Keyring
from relay.core.log import Attempt, Entry
from relay.core.outcome import Outcome, Reply
from relay.core.retry import Decision, Verdict, decide
from relay.core.signing import signing_key
from relay.core.subscriber import Subscriber
from relay.egress import Sender
from relay.telemetry import Metrics

BODY_KEPT = 1024

log = structlog.get_logger()


def open_receiver(subscriber: Subscriber, keyring: Keyring) -> Receiver:
    """A subscriber with its keys in the clear; raises `UnreadableSecretError`."""
    keys = [
        SigningKey(
            signing_key(keyring.open(secret.sealed, subscriber.id)),
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
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._rng = rng
        self._schedule_s = schedule_s
        self._agent = agent
        self._max_payload_bytes = max_payload_bytes

    def schedule_of(self, subscriber: Subscriber) -> Sequence[float]:
        """Delays after attempt 1, 2, … in seconds."""
        return subscriber.retry_schedule_s or self._schedule_s

    async def test(self, receiver: Receiver, entry: Entry) -> Attempt:
        """POST once, and never again."""
        reply, started = await self._send(receiver, entry)
        return self._attempt(entry, receiver.subscriber, 1, started, reply, decide(reply, 1, (), 0.0))

    async def attempt(
        self, receiver: Receiver, entry: Entry, attempt_no: int, *, hold: bool = False
    ) -> tuple[Attempt, Reply]:
        """POST once; the attempt holds the verdict and, for a retry, when it is due. `hold` as in `decide`."""
        reply, started = await self._send(receiver, entry)
        subscriber = receiver.subscriber
        decision = decide(reply, attempt_no, self.schedule_of(subscriber), self._rng.random(), hold=hold)
        if decision.verdict is Verdict.DEAD:
            self._metrics.dead.inc()
        return self._attempt(entry, subscriber, attempt_no, started, reply, decision), reply

    async def _send(self, receiver: Receiver, entry: Entry) -> tuple[Reply, datetime]:
        body = body_for(receiver, entry)
        started = self._clock.now()
        reply = self._refuse(body) or await self._post(receiver, entry.event_id, body, started)
        return reply, started

    def _attempt(
        self,
        entry: Entry,
        subscriber: Subscriber,
        attempt_no: int,
        started: datetime,
        reply: Reply,
        decision: Decision,
    ) -> Attempt:
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
            reply.dns_ms,
            reply.connect_ms,
            reply.first_byte_ms,
        )
        self._tell(attempt, decision.delay_s if due else None)
        return attempt

    def _refuse(self, body: bytes) -> Reply | None:
        """What is too large is not sent, not cut and not tried again: it would be as large the next time."""
        if len(body) <= self._max_payload_bytes:
            return None
        limit = f"the limit is {self._max_payload_bytes} (RELAY_MAX_PAYLOAD_BYTES)"
        return Reply(Outcome.TOO_LARGE, detail=f"the body has {len(body)} bytes, {limit}: GET /v1/events has it")

    async def _post(self, receiver: Receiver, event_id: str, body: bytes, now: datetime) -> Reply:
        headers = headers_for(receiver, event_id, body, now, self._agent)
        subscriber = receiver.subscriber
        self._metrics.in_flight.inc()
        try:
            return await self._sender.post(subscriber.url, headers, body, timeout_s=subscriber.timeout_s)
        finally:
            self._metrics.in_flight.dec()

    def _tell(self, attempt: Attempt, delay_s: float | None) -> None:
        self._metrics.attempt_seconds.labels(attempt.outcome).observe(attempt.duration_ms / 1000)
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
