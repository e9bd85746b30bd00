"""The admin API as one application: the table of routes, and what stands before every one of them."""

import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from aiohttp import web

from relay.admin.console import Console
from relay.admin.deliveries import Deliveries
from relay.admin.description import Description
from relay.admin.entities import Entities
from relay.admin.entity_explain import ExplainEntity
from relay.admin.errors import PATHS, errors
from relay.admin.event_types import EventTypes
from relay.admin.events import Events
from relay.admin.explain import Explain
from relay.admin.feed import Feed
from relay.admin.feed_tail import FeedTail
from relay.admin.health import SubscriberHealth
from relay.admin.idempotency import Idempotency
from relay.admin.ledger import Ledger
from relay.admin.pages import NoQuery
from relay.admin.ping import Ping
from relay.admin.policy import Policy
from relay.admin.preview import Preview
from relay.admin.reconcile import Reconcile
from relay.admin.replays import Replays
from relay.admin.requests import MAX_BODY_BYTES, plain_bodies, read_query
from relay.admin.routes import Handler, Route
from relay.admin.security import authentication
from relay.admin.signing_keys import SigningKeys
from relay.admin.sources import SourceInfo, Sources
from relay.admin.statistics import Statistics
from relay.admin.stream import Streams
from relay.admin.subscribers import Subscribers
from relay.admin.users import Users
from relay.attempts import Attempter
from relay.clock import Clock
from relay.core.addresses import Network, check_url
from relay.core.erasure import pseudonyms
from relay.core.keyring import Keyring
from relay.durable import Durable
from relay.erasure import Erasure
from relay.store import Store
from relay.telemetry import Metrics

_NAME: Final = re.compile(r"\{(\w+)\}")
ROUTES: Final = web.AppKey("routes", tuple[Route, ...])


def admin_app(
    *,
    store: Store,
    keyring: Keyring,
    attempter: Attempter,
    tokens: Sequence[str],
    allow: Sequence[Network],
    allow_http: bool,
    sources: Sequence[SourceInfo],
    clock: Clock,
    rng: random.Random,
    max_attempts: int,
    new_secret: Callable[[], str],
    durable: Durable,
    tail: FeedTail,
    metrics: Metrics,
) -> web.Application:
    """Build the application; `rng` makes subscriber ids, `max_attempts` is the longest schedule in use plus one.

    `new_secret` makes the signing secret of a subscriber that brings none. `tail` must be run beside the application.
    """

    def normalise_url(url: str) -> str:
        return check_url(url, allow_http=allow_http, allow=allow).url

    names = [one.name for one in sources]
    policy = Policy(normalise_url, names)
    feed, ledger = Feed(store.log, durable), Ledger(store, max_attempts)
    resources = (
        Subscribers(store.registry, store.pulses, SigningKeys(keyring, clock, new_secret), clock, rng, policy),
        Ping(store.registry, store.pulses, keyring, attempter, clock),
        Sources(store, sources, clock),
        Streams(feed, tail),
        Events(feed),
        Explain(store, feed, ledger, {one.name: one.interval_s for one in sources}),
        Entities(store, feed, ledger, {one.name: one.kind for one in sources}),
        ExplainEntity(store, feed, sources, clock),
        Preview(store, feed, policy),
        Deliveries(store, max_attempts),
        Reconcile(store, max_attempts),
        Replays(store, rng, max_attempts),
        EventTypes(),
        SubscriberHealth(store, max_attempts, clock),
        Statistics(store.statistics, clock),
        Console(),
        Users(Erasure(store, pseudonyms(keyring), names, wait_replicas=durable.replicas), clock),
    )
    described = tuple(route for resource in resources for route in resource.routes())
    routes = (*described, *Description(described).routes())
    public = {route.path for route in routes if route.public}
    app = web.Application(
        middlewares=[errors, authentication(tokens, clock, metrics, public), plain_bodies],
        client_max_size=MAX_BODY_BYTES,
    )
    app[ROUTES] = routes
    app[PATHS] = "GET /openapi.json lists them, and /docs shows them"
    idempotency = Idempotency(store.idempotency, keyring)
    for route in app[ROUTES]:
        handler = idempotency.wrap(route.handler) if route.keyed else route.handler
        handler = partial(_without_query, handler) if route.query is NoQuery else handler
        if route.method == "GET":
            app.router.add_get(_pattern(route, routes), handler)  # and HEAD
        else:
            app.router.add_route(route.method, _pattern(route, routes), handler)
    return app


def _pattern(route: Route, routes: Sequence[Route]) -> str:
    """The path for the router: an id may hold anything but a slash (of itself, aiohttp takes no braces there).

    A name that has a route of its own (`/redeliver`) is nobody's id (`/{id}`): otherwise methods of one would be
    allowed for the other.
    """
    head, _, last = route.path.rpartition("/")
    if last.startswith("{"):
        siblings = {one.path.rpartition("/") for one in routes}
        own = sorted(re.escape(name) for above, _, name in siblings if above == head and not name.startswith("{"))
        others = f"(?!(?:{'|'.join(own)})$)" if own else ""
        last = f"{{{last[1:-1]}:{others}[^/]+}}"
    return _NAME.sub(r"{\1:[^/]+}", head) + "/" + last


async def _without_query(handler: Handler, request: web.Request) -> web.StreamResponse:
    """A route that takes no query parameters says so, rather than ignore one."""
    read_query(request, NoQuery)
    return await handler(request)
