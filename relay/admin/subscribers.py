"""Subscribers: register, read, change, remove, switch on and off, rotate secrets."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web

from relay.admin.idempotency import new_id
from relay.admin.merge_patch import faults, patched
from relay.admin.pages import PageQuery, json_response, page_of, page_response
from relay.admin.policy import Policy
from relay.admin.problems import FieldError, ProblemError, invalid, not_found
from relay.admin.requests import PATCH_TYPES, read_model, read_object, read_query, validated
from relay.admin.routes import Route
from relay.admin.security import audit
from relay.admin.signing_keys import SigningKeys
from relay.admin.subscriber_schema import OWN_KEY_PAIR, NewSubscriber, RotateIn, SubscriberIn
from relay.admin.subscriber_shown import PatchedSubscriber, SecretSubscriber, SubscriberOut, settable, shown
from relay.clock import Clock
from relay.core.events import rfc3339
from relay.core.notice import change_state
from relay.core.pulse import NO_PULSE, Pulse
from relay.core.rotation import TooManySecretsError
from relay.core.subscriber import State, Subscriber
from relay.store.pulses import PulseStore
from relay.store.registry import ChangedMeanwhileError, RegistryStore

_TRIES: Final = 4
_DISABLED: Final = State(status="disabled", reason="disabled through the API")


class Changed(NamedTuple):
    """What a change makes of a subscriber."""

    subscriber: Subscriber
    told_once: Mapping[str, str | None] = {}
    """Fields of the answer that no other answer holds: a new secret."""


Change = Callable[[Subscriber], Changed]


class Subscribers:
    """The routes below /v1/subscribers, without the test."""

    def __init__(
        self,
        store: RegistryStore,
        pulses: PulseStore,
        keys: SigningKeys,
        clock: Clock,
        rng: random.Random,
        policy: Policy,
    ) -> None:
        self._store = store
        self._pulses = pulses
        self._keys = keys
        self._clock = clock
        self._rng = rng
        self._policy = policy

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        path, one = "/v1/subscribers", "/v1/subscribers/{id}"
        found, changed, rotated = {200: SubscriberOut}, {200: PatchedSubscriber}, {200: SecretSubscriber}
        change = "Change a subscriber (JSON Merge Patch)"
        enable = "Send to a subscriber again; one that is enabled and rests is tried at once"
        rotate = "Let a new secret or key pair sign, and the old ones with it until the overlap ends"
        return (
            Route("POST", path, self._create, "Register a subscriber", {201: SecretSubscriber}, body=NewSubscriber),
            Route("GET", path, self._list, "List subscribers", found, query=PageQuery, page=True),
            Route("GET", one, self._get, "Show a subscriber", found),
            Route("PATCH", one, self._patch, change, changed, body=SubscriberIn, problems=(409,)),
            Route(
                "DELETE", one, self._delete, "Remove a subscriber and what waits for it", {204: None}, problems=(409,)
            ),
            Route("POST", f"{one}/rotate-secret", self._rotate, rotate, rotated, body=RotateIn, body_optional=True),
            Route("POST", f"{one}/enable", self._enable, enable, found),
            Route("POST", f"{one}/disable", self._disable, "Stop sending; its events wait in the log", found),
        )

    async def _create(self, request: web.Request) -> web.Response:
        wanted = await read_model(request, NewSubscriber, context=self._policy)
        subscriber_id = new_id("sub_", request, self._rng)
        made = self._keys.first(subscriber_id, wanted.signature, wanted.secret)
        now = self._now()
        subscriber = Subscriber(
            id=subscriber_id,
            **wanted.content(),
            state=State() if wanted.enabled else _DISABLED,
            created_at=now,
            updated_at=now,
            secrets=(made.stored,),
        )
        secret = made.secret
        try:
            await self._store.create(subscriber)
        except ChangedMeanwhileError:  # an earlier try of this very request has registered it, and died
            subscriber = await self._made_before(subscriber_id)
            secret = self._keys.current(subscriber)
        audit(request, "subscriber.create", subscriber_id)
        location = f"/v1/subscribers/{subscriber_id}"
        return json_response({**self._shown(subscriber), "secret": secret}, 201, Location=location)

    async def _made_before(self, subscriber_id: str) -> Subscriber:
        subscriber = await self._store.get(subscriber_id)
        if subscriber is None:
            raise _contended()
        return subscriber

    async def _list(self, request: web.Request) -> web.Response:
        query = read_query(request, PageQuery)
        page, following = page_of(await self._store.all(), query, lambda one: f"{one.created_at} {one.id}")
        pulses = await self._pulses.of([one.id for one in page])
        return page_response([self._shown(one, pulses[one.id]) for one in page], following)

    async def _get(self, request: web.Request) -> web.Response:
        return json_response(await self._as_it_is(await find_subscriber(self._store, request)))

    async def _patch(self, request: web.Request) -> web.Response:
        patch = await read_object(request, PATCH_TYPES)
        if found := faults(patch):
            raise invalid(*found)
        return await self._change(request, "subscriber.change", lambda old: self._patched(old, patch))

    async def _delete(self, request: web.Request) -> web.Response:
        for _ in range(_TRIES):
            old = await find_subscriber(self._store, request)
            try:
                await self._store.delete(old)
            except ChangedMeanwhileError:
                continue
            audit(request, "subscriber.delete", old.id)
            return web.Response(status=204)
        raise _contended()

    async def _rotate(self, request: web.Request) -> web.Response:
        wanted = await read_model(request, RotateIn, optional=True)
        return await self._change(request, "subscriber.rotate-secret", lambda old: self._rotated(old, wanted))

    async def _enable(self, request: web.Request) -> web.Response:
        """An enabled one is tried at once, if it rests; its state stays what it was."""
        answer = await self._change(request, "subscriber.enable", lambda old: Changed(_enabled(old)), rests=False)
        await self._store.wake(request.match_info["id"])
        return answer

    async def _disable(self, request: web.Request) -> web.Response:
        return await self._change(request, "subscriber.disable", lambda old: Changed(_disabled(old)))

    async def _change(self, request: web.Request, action: str, change: Change, *, rests: bool = True) -> web.Response:
        """Read, change, write if nobody else has meanwhile, else begin again.

        Whatever the change, the secrets are sealed by the first key of the ring afterwards. `rests`: a rest goes on.
        """
        for _ in range(_TRIES):
            old = await find_subscriber(self._store, request)
            changed, told_once = change(old)
            new = self._keys.tidied(changed)
            if new == old:
                return json_response(await self._as_it_is(old, rests=rests))
            undecided = msgspec.structs.replace(new, state=old.state)
            new, event = change_state(undecided, new.state, self._clock.now(), enabled=new.enabled)
            try:
                await self._store.replace(old, new, event)
            except ChangedMeanwhileError:
                continue
            audit(request, action, old.id)
            begins = new.enabled and not old.enabled
            document = self._shown(new) if begins else await self._as_it_is(new, rests=rests)
            return json_response({**document, **told_once})
        raise _contended()

    def _patched(self, old: Subscriber, patch: Mapping[str, Any]) -> Changed:
        wanted = validated(SubscriberIn, patched(settable(old), patch), self._policy.keeping(old))
        new = msgspec.structs.replace(old, **wanted.content())
        if new.enabled != old.enabled:
            new = _enabled(new) if new.enabled else _disabled(new)
        if new.signature == old.signature:
            return Changed(new)
        # Secrets of the scheme that is left do not stay behind: whoever changes back gets a new one.
        made = self._keys.first(old.id, new.signature)
        told_once = {} if made.secret is None else {"secret": made.secret}
        return Changed(msgspec.structs.replace(new, secrets=(made.stored,)), told_once)

    def _rotated(self, old: Subscriber, wanted: RotateIn) -> Changed:
        if wanted.secret is not None and old.signature == "v1a":
            raise _unfit(OWN_KEY_PAIR)
        if wanted.secret is not None and self._keys.holds(old, wanted.secret):
            raise _unfit("signs already: send another, or leave it out to have one made")
        try:
            new, secret = self._keys.rotated(old, wanted.overlap_s, wanted.secret)
        except TooManySecretsError as error:
            raise ProblemError("conflict", str(error)) from None
        return Changed(new, {"secret": secret})

    async def _as_it_is(self, subscriber: Subscriber, *, rests: bool = True) -> dict[str, Any]:
        pulse = (await self._pulses.of([subscriber.id]))[subscriber.id]
        return self._shown(subscriber, pulse if rests else pulse.resting(None))

    def _shown(self, subscriber: Subscriber, pulse: Pulse = NO_PULSE) -> dict[str, Any]:
        return shown(subscriber, self._clock.now(), pulse)

    def _now(self) -> str:
        return rfc3339(self._clock.now()) or ""


async def find_subscriber(store: RegistryStore, request: web.Request) -> Subscriber:
    """The subscriber that the path names; raises `ProblemError`."""
    subscriber = await store.get(request.match_info["id"])
    if subscriber is None:
        raise not_found("subscriber")
    return subscriber


def _enabled(subscriber: Subscriber) -> Subscriber:
    if subscriber.enabled:
        return subscriber
    return msgspec.structs.replace(subscriber, enabled=True, state=State())


def _disabled(subscriber: Subscriber) -> Subscriber:
    if not subscriber.enabled and subscriber.state.status == "disabled":
        return subscriber
    return msgspec.structs.replace(subscriber, enabled=False, state=_DISABLED)


def _unfit(detail: str) -> ProblemError:
    """A secret that is valid, but not for this subscriber as it is."""
    return ProblemError("conflict", "mend /secret and send it again", errors=[FieldError("/secret", detail)])


def _contended() -> ProblemError:
    return ProblemError(
        "conflict", "the subscriber keeps being changed by somebody else: read it again, then try again"
    )
