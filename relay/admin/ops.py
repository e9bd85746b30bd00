"""What a cluster asks: is it alive, is it ready, how is it doing. Without a token, on its own port."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from relay.admin.errors import PATHS, errors
from relay.admin.requests import plain_bodies
from relay.telemetry import Metrics


def ops_app(
    *, metrics: Metrics, alive: Callable[[], bool], ready: Callable[[], Awaitable[str | None]]
) -> web.Application:
    """Build the application. `ready` says why the replica is not ready, or None if it is."""

    async def healthz(_request: web.Request) -> web.Response:
        return _verdict(None if alive() else "a loop has stopped")

    async def readyz(_request: web.Request) -> web.Response:
        return _verdict(await ready())

    async def exposition(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(middlewares=[errors, plain_bodies])
    app[PATHS] = "there are /healthz, /readyz and /metrics"
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", exposition)
    return app


def _verdict(reason: str | None) -> web.Response:
    return web.Response(
        text=f"{reason or 'ok'}\n", status=503 if reason else 200, headers={"Cache-Control": "no-store"}
    )
