"""Clients of the sandbox for its own tests: what a poller and a person with curl do, without a relay."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import aiohttp
from learnosity_sdk.request import Init

from relay.sandbox import (
    LEARNOSITY_CONSUMER_KEY,
    LEARNOSITY_CONSUMER_SECRET,
    LEARNOSITY_DOMAIN,
    LEARNOSITY_VERSION,
    LOD_API_KEY,
    Sandbox,
)

NOW = datetime(2026, 11, 21, 17, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
OWN_KEY = {"api_key": LOD_API_KEY}
DROP = object()


class StillClock:
    """A clock that stands still: only the sandbox's own `advance` moves time."""

    def now(self) -> datetime:
        """Always the same moment."""
        return NOW

    def monotonic(self) -> float:
        """Always the same reading."""
        return 0.0


def packet(**changes: Any) -> dict[str, str]:
    """What the SDK's user hands in as security; `DROP` removes a field."""
    good = {
        "consumer_key": LEARNOSITY_CONSUMER_KEY,
        "domain": LEARNOSITY_DOMAIN,
        "timestamp": f"{NOW:%Y%m%d-%H%M}",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not DROP}


def signed(request: Any, secret: str = LEARNOSITY_CONSUMER_SECRET, **security: Any) -> dict[str, str]:
    """Form fields as the official SDK signs them."""
    form = Init("data", packet(**security), secret, request, "get").generate()
    assert isinstance(form, dict)
    return form


def resealed(form: dict[str, str], **changes: Any) -> dict[str, str]:
    """The form with fields of its security packet changed after signing."""
    security = {**json.loads(form["security"]), **changes}
    kept = {name: value for name, value in security.items() if value is not DROP}
    return {**form, "security": json.dumps(kept)}


class SandboxClient:
    """A sandbox and a connection pool; what both simulators' clients share."""

    def __init__(self, session: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        self._session = session
        self.sandbox = sandbox

    async def control(self, path: str, body: Any) -> tuple[int, Any]:
        """One call of the control surface."""
        data = body if isinstance(body, str) else json.dumps(body)
        async with self._session.post(f"{self.sandbox.control_url}/{path}", data=data) as response:
            return response.status, await response.json()

    async def read(self, path: str) -> tuple[int, Any]:
        """One look at the control surface."""
        async with self._session.get(self.sandbox.control_url + path) as response:
            return response.status, await response.json()


class LodClient(SandboxClient):
    """What a poller does, without a relay: LOD."""

    async def call(
        self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None, **options: Any
    ) -> tuple[int, Any]:
        """One request with the key unless other headers are given; the body is JSON where it can be."""
        url = self.sandbox.lod_url + path
        headers = OWN_KEY if headers is None else headers
        async with self._session.request(method, url, headers=headers, **options) as response:
            body = await response.read()
            is_json = response.content_type == "application/json"
            return response.status, json.loads(body) if is_json else body

    async def rows(self, minutes: int = 60) -> dict[int, dict[str, Any]]:
        """The window's rows by id."""
        _, body = await self.call(f"/LatestResults/?minutes={minutes}")
        return {row["LabInstanceId"]: row for row in body["Results"]}

    async def raw(self, timeout_s: float = 5) -> tuple[int, bytes]:
        """One request's status and bytes, whatever they are."""
        url = self.sandbox.lod_url + "/LatestResults/?minutes=5"
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with self._session.get(url, headers=OWN_KEY, timeout=timeout) as response:
            return response.status, await response.read()


class LearnosityClient(SandboxClient):
    """What a poller does, without a relay: Learnosity."""

    async def post(
        self, data: Any, path: str = f"/{LEARNOSITY_VERSION}/sessions/statuses", method: str = "POST", **options: Any
    ) -> tuple[int, bytes]:
        """Status and bytes of one request; redirects are not followed."""
        async with self._session.request(
            method, self.sandbox.learnosity_url + path, data=data, allow_redirects=False, **options
        ) as response:
            return response.status, await response.read()

    async def code(self, data: Any, **options: Any) -> tuple[int, int]:
        """HTTP status and the vendor's code of a refusal."""
        status, body = await self.post(data, **options)
        meta = json.loads(body)["meta"]
        assert meta["status"] is False
        assert meta["message"]
        return status, meta["code"]

    async def get(self, **request: Any) -> Any:
        """A signed request that must succeed."""
        status, body = await self.post(signed(request))
        answer = json.loads(body)
        assert (status, answer["meta"]["status"]) == (200, True)
        return answer

    async def sweep(self, **request: Any) -> list[list[str]]:
        """Session ids page by page, down to the empty page."""
        pages: list[list[str]] = []
        while not pages or pages[-1]:
            answer = await self.get(**request)
            pages.append([row["session_id"] for row in answer["data"]])
            if pages[-1]:
                request["next"] = answer["meta"]["next"]
        return pages


ClientT = TypeVar("ClientT", bound=SandboxClient)


@asynccontextmanager
async def sandboxed(kind: type[ClientT]) -> AsyncIterator[ClientT]:
    """Run a sandbox whose time stands still, with a client of it."""
    sandbox = await Sandbox.start(clock=StillClock())
    async with aiohttp.ClientSession() as session:
        yield kind(session, sandbox)
    await sandbox.stop()
