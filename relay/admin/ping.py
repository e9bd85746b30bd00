"""POST /v1/subscribers/{id}/test: one signed `relay.test`, at once, and what came of it.

It works for a disabled subscriber too: that is how one finds out whether to enable it. Nothing is stored, nothing is
retried, and the delivery record does not know it. One that is delivered proves the receiver well, so a subscriber that
fails or rests is tried at once.
"""

from collections.abc import Sequence

from aiohttp import web
from pydantic import ConfigDict

from relay.admin.attempt_schema import BareAttempt, shown_test
from relay.admin.examples import PING
from relay.admin.fields import Described, example
from relay.admin.pages import json_response
from relay.admin.problems import ProblemError
from relay.admin.routes import Route
from relay.admin.security import audit
from relay.admin.subscribers import find_subscriber
from relay.attempts import Attempter, open_receiver
from relay.clock import Clock
from relay.core.envelope import Receiver
from relay.core.keyring import Keyring, UnreadableSecretError
from relay.core.log import Entry, Place
from relay.core.ping import ping_event
from relay.core.retry import Verdict
from relay.core.subscriber import Subscriber
from relay.store.pulses import PulseStore
from relay.store.registry import RegistryStore


class PingOut(Described):
    """The answer to a test."""

    model_config = ConfigDict(json_schema_extra=example(PING))

    event_id: str
    """The `webhook-id` that was sent; a test is not kept, so `/v1/events` does not know it."""
    attempt: BareAttempt
    resumed: bool
    """It was delivered to a subscriber that was failing: what waits for that one is tried at once."""


class Ping:
    """Sends tests, one at a time for each subscriber."""

    def __init__(
        self, store: RegistryStore, pulses: PulseStore, keyring: Keyring, attempter: Attempter, clock: Clock
    ) -> None:
        self._store = store
        self._pulses = pulses
        self._keyring = keyring
        self._attempter = attempter
        self._clock = clock
        self._under_way: set[str] = set()

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        summary = "Send relay.test at once, to a disabled subscriber too; 200 whatever came of it"
        return (Route("POST", "/v1/subscribers/{id}/test", self._test, summary, {200: PingOut}),)

    async def _test(self, request: web.Request) -> web.Response:
        subscriber = await find_subscriber(self._store, request)
        if subscriber.id in self._under_way:
            raise ProblemError("conflict", "a test of this subscriber is under way: wait for its answer")
        self._under_way.add(subscriber.id)
        try:
            receiver = self._open(subscriber)
            audit(request, "subscriber.test", subscriber.id)
            now = self._clock.now()
            number = await self._store.next_test_no(subscriber.id)
            event = ping_event(subscriber.id, number, now)
            place = Place(int(now.timestamp() * 1000), 0)
            entry = Entry(place, event.id, event.type, event.source, event.entity_id, event.payload, event.private)
            attempt = await self._attempter.test(receiver, entry)
        finally:
            self._under_way.discard(subscriber.id)
        resumed = attempt.verdict == Verdict.DELIVERED and await self._resume(subscriber)
        return json_response({"event_id": event.id, "attempt": shown_test(attempt), "resumed": resumed})

    async def _resume(self, subscriber: Subscriber) -> bool:
        pulse = (await self._pulses.of([subscriber.id]))[subscriber.id]
        ailing = subscriber.enabled and (pulse.failures > 0 or pulse.resting_until_ms is not None)
        if ailing:
            await self._store.wake(subscriber.id)
        return ailing

    def _open(self, subscriber: Subscriber) -> Receiver:
        try:
            return open_receiver(subscriber, self._keyring)
        except UnreadableSecretError as error:
            raise ProblemError("conflict", str(error)) from None
