"""Replays of a subscriber: begin, watch, cancel.

A request only writes down what is to be done, and counts it within bounds; whoever holds the subscriber's delivery
shard carries it out (`relay.replays`).
"""

import random
from collections.abc import Sequence
from typing import Final

import msgspec
from aiohttp import web

from relay.admin.idempotency import new_id
from relay.admin.pages import PageQuery, json_response, page_of, page_response
from relay.admin.problems import FieldError, ProblemError, invalid, not_found
from relay.admin.replay_schema import ReplayIn, ReplayOut, shown_replay
from relay.admin.requests import read_model, read_query
from relay.admin.routes import Route
from relay.admin.security import audit
from relay.admin.subscribers import find_subscriber
from relay.arrears import count
from relay.core.log import just_before
from relay.core.replay import Ending, Plan, Replay
from relay.core.retry import highest_attempt
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.replays import UnreadableReplayError

_LATEST_MS: Final = 2**53
"""Far in the future: the list counts back from it, so that the latest comes first."""


class Replays:
    """The routes below a subscriber that begin, show and cancel its replays."""

    def __init__(self, store: Store, rng: random.Random, max_attempts: int) -> None:
        self._store = store
        self._rng = rng
        self._highest = highest_attempt(max_attempts)

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        many, one = "/v1/subscribers/{id}/replays", "/v1/subscribers/{id}/replays/{replay_id}"
        begin = "Send a subscriber a range of events again, in the background and behind live ones"
        cancel = "Cancel a replay; what it has handed over already goes out"
        listed, shown = "List a subscriber's latest 20 replays, the last one first", {200: ReplayOut}
        return (
            Route("POST", "/v1/subscribers/{id}/replay", self._begin, begin, {202: ReplayOut}, body=ReplayIn),
            Route("GET", many, self._list, listed, shown, query=PageQuery, page=True),
            Route("GET", one, self._get, "Show a replay with its progress", shown),
            Route("DELETE", one, self._cancel, cancel, shown),
        )

    async def _begin(self, request: web.Request) -> web.Response:
        subscriber = await find_subscriber(self._store.registry, request)
        wanted = await read_model(request, ReplayIn)
        replay_id = new_id("rpl_", request, self._rng)
        begun = await self._store.replays.get(subscriber.id, replay_id)
        if begun is not None:  # by an earlier try of this very request, which died
            return _created(begun, subscriber)
        running = (await self._store.replays.running()).get(subscriber.id)
        if running is not None:
            raise _in_the_way(running)
        plan = await self._plan(replay_id, wanted, subscriber)
        sent, counted = await count(self._store, plan, subscriber, self._highest)
        plan = msgspec.structs.replace(plan, count=sent, counted=counted)
        running = await self._store.replays.begin(plan)
        if not running:
            raise not_found("subscriber")
        if running != plan.id:
            raise _in_the_way(running)
        audit(request, "replay.create", plan.id)
        return _created(Replay(plan, plan.after, 0, 0, None), subscriber)

    async def _plan(self, replay_id: str, wanted: ReplayIn, subscriber: Subscriber) -> Plan:
        """What is asked for, as a range of what the log holds now."""
        store, now_ms = self._store, await self._store.deliveries.now_ms()
        since_ms = max(int(wanted.since.timestamp() * 1000), 0)
        if since_ms > now_ms:
            raise invalid(FieldError("/since", "lies in the future"))
        extent = await store.log.extent()
        until = extent.end
        if wanted.until is not None:
            until = min(until, just_before(int(wanted.until.timestamp() * 1000)))
        after = just_before(since_ms)
        first = await store.log.after(after, until, 1) if after < until else []
        return Plan(
            id=replay_id,
            subscriber_id=subscriber.id,
            after=after,
            until=until if first else after,
            event_types=tuple(wanted.event_types or ()),
            only=wanted.only,
            since_ms=since_ms,
            created_ms=now_ms,
            begins_ms=first[0].place.ms if first else None,
            trimmed=after < extent.trimmed,
            count=0,
            counted=False,
        )

    async def _list(self, request: web.Request) -> web.Response:
        query = read_query(request, PageQuery)
        subscriber = await find_subscriber(self._store.registry, request)
        found = await self._store.replays.of(subscriber.id)
        page, following = page_of(found, query, lambda one: f"{_LATEST_MS - one.plan.created_ms:016} {one.plan.id}")
        return page_response([shown_replay(one, subscriber) for one in page], following)

    async def _get(self, request: web.Request) -> web.Response:
        return json_response(shown_replay(*await self._find(request)))

    async def _cancel(self, request: web.Request) -> web.Response:
        replay, subscriber = await self._find(request)
        if replay.ending is None:
            ending = Ending("cancelled", await self._store.deliveries.now_ms())
            if await self._store.replays.end(subscriber.id, replay.plan.id, ending):
                audit(request, "replay.cancel", replay.plan.id)
            replay, subscriber = await self._find(request)
        return json_response(shown_replay(replay, subscriber))

    async def _find(self, request: web.Request) -> tuple[Replay, Subscriber]:
        subscriber = await find_subscriber(self._store.registry, request)
        try:
            replay = await self._store.replays.get(subscriber.id, request.match_info["replay_id"])
        except UnreadableReplayError:
            replay = None
        if replay is None:
            raise not_found("replay")
        return replay, subscriber


def _created(replay: Replay, subscriber: Subscriber) -> web.Response:
    location = f"/v1/subscribers/{subscriber.id}/replays/{replay.plan.id}"
    return json_response(shown_replay(replay, subscriber), 202, Location=location)


def _in_the_way(replay_id: str) -> ProblemError:
    return ProblemError("conflict", f"{replay_id} is running for this subscriber: wait for its end, or DELETE it")
