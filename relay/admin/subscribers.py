"""Subscribers: register, read, change, remove, switch on and off."""

import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web
from pydantic import ValidationError

from relay.admin.merge_patch import merge, unknown_fields
from relay.admin.pages import PageQuery, json_response, page_of
from relay.admin.problems import ProblemError, from_validation, invalid, not_found
from relay.admin.requests import JSON_TYPES, names, read_object, read_query
from relay.admin.routes import Route
from relay.admin.security import audit
from relay.admin.subscriber_schema import (
    CreatedSubscriber,
    NewSubscriber,
    SubscriberIn,
    SubscriberOut,
    UrlPolicy,
    settable,
    shown,
)
from relay.clock import Clock
from relay.core.events import rfc3339
from relay.core.keyring import NONCE_BYTES, Keyring
from relay.core.subscriber import State, StoredSecret, Subscriber
from relay.store.registry import ChangedMeanwhileError, RegistryStore

PATCH_TYPES: Final = ("application/merge-patch+json", *JSON_TYPES)
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH: Final = 22
_TRIES: Final = 4
_DISABLED: Final = State(status="disabled", reason="disabled through the API")

Change = Callable[[Subscriber], Subscriber]


class Subscribers:
    """The routes below /v1/subscribers, without the test."""

    def __init__(
        self,
        store: RegistryStore,
        keyring: Keyring,
        clock: Clock,
        rng: random.Random,
        normalise_url: Callable[[str], str],
        new_secret: Callable[[], str],
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._rng = rng
        self._normalise_url = normalise_url
        self._new_secret = new_secret

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        path, one = "/v1/subscribers", "/v1/subscribers/{id}"
        found = {200: SubscriberOut}
        return (
            Route("POST", path, self._create, "Register a subscriber", {201: CreatedSubscriber}, body=NewSubscriber),
            Route("GET", path, self._list, "List subscribers", found, query=PageQuery),
            Route("GET", one, self._get, "Show a subscriber", found),
            Route("PATCH", one, self._patch, "Change a subscriber (JSON Merge Patch)", found, body=SubscriberIn),
            Route("DELETE", one, self._delete, "Remove a subscriber and what waits for it", {204: None}),
            Route("POST", f"{one}/enable", self._enable, "Send to a subscriber again", found),
            Route("POST", f"{one}/disable", self._disable, "Stop sending; its events wait in the log", found),
        )

    async def _create(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        try:
            wanted = NewSubscriber.model_validate(body, context=UrlPolicy(self._normalise_url))
        except ValidationError as error:
            raise from_validation(error, names(NewSubscriber)) from None
        subscriber_id = "sub_" + "".join(self._rng.choices(_ALPHABET, k=_ID_LENGTH))
        secret = wanted.secret.get_secret_value() if wanted.secret else self._new_secret()
        sealed = self._keyring.seal(secret, subscriber_id, os.urandom(NONCE_BYTES))
        now = self._now()
        subscriber = Subscriber(
            id=subscriber_id,
            **wanted.content(),
            state=State() if wanted.enabled else _DISABLED,
            created_at=now,
            updated_at=now,
            secrets=(StoredSecret(sealed=sealed),),
        )
        await self._store.create(subscriber)
        audit(request, "subscriber.create", subscriber_id)
        location = f"/v1/subscribers/{subscriber_id}"
        return json_response({**shown(subscriber), "secret": secret}, 201, Location=location)

    async def _list(self, request: web.Request) -> web.Response:
        query = read_query(request, PageQuery)
        return page_of(await self._store.all(), query, key=lambda one: f"{one.created_at} {one.id}", show=shown)

    async def _get(self, request: web.Request) -> web.Response:
        return json_response(shown(await find_subscriber(self._store, request)))

    async def _patch(self, request: web.Request) -> web.Response:
        patch = await read_object(request, PATCH_TYPES)
        if faults := unknown_fields(patch):
            raise invalid(*faults)
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

    async def _enable(self, request: web.Request) -> web.Response:
        return await self._change(request, "subscriber.enable", _enabled)

    async def _disable(self, request: web.Request) -> web.Response:
        return await self._change(request, "subscriber.disable", _disabled)

    async def _change(self, request: web.Request, action: str, change: Change) -> web.Response:
        """Read, change, write if nobody else has meanwhile, else begin again."""
        for _ in range(_TRIES):
            old = await find_subscriber(self._store, request)
            new = change(old)
            if new == old:
                return json_response(shown(old))
            new = msgspec.structs.replace(new, updated_at=self._now())
            try:
                await self._store.replace(old, new)
            except ChangedMeanwhileError:
                continue
            audit(request, action, old.id)
            return json_response(shown(new))
        raise _contended()

    def _patched(self, old: Subscriber, patch: Mapping[str, Any]) -> Subscriber:
        policy = UrlPolicy(self._normalise_url, keep=old.url)
        try:
            wanted = SubscriberIn.model_validate(merge(settable(old), patch), context=policy)
        except ValidationError as error:
            raise from_validation(error, names(SubscriberIn)) from None
        new = msgspec.structs.replace(old, **wanted.content())
        if new.enabled == old.enabled:
            return new
        return _enabled(new) if new.enabled else _disabled(new)

    def _now(self) -> str:
        return rfc3339(self._clock.now()) or ""


async def find_subscriber(store: RegistryStore, request: web.Request) -> Subscriber:
    """The subscriber that the path names; raises `ProblemError`."""
    subscriber = await store.get(request.match_info["id"])
    if subscriber is None:
        raise not_found("subscriber")
    return subscriber


def _enabled(subscriber: Subscriber) -> Subscriber:
    return msgspec.structs.replace(subscriber, enabled=True, state=State())


def _disabled(subscriber: Subscriber) -> Subscriber:
    if not subscriber.enabled and subscriber.state.status == "disabled":
        return subscriber
    return msgspec.structs.replace(subscriber, enabled=False, state=_DISABLED)


def _contended() -> ProblemError:
    return ProblemError(
        "conflict", "the subscriber keeps being changed by somebody else: read it again, then try again"
    )
