"""Ids in paths may hold whatever a system puts into its ids."""

import pytest
from redis.asyncio import Redis

from tests.service.admin_api import admin_api


@pytest.mark.parametrize("path", ["/v1/subscribers/%7B88f384af-c053%7D", "/v1/subscribers/%7Ba%7D/health"])
async def test_an_id_may_hold_braces(redis_client: Redis, path: str) -> None:
    """Some systems write GUIDs with them: such a path reaches its route."""
    async with admin_api(redis_client) as api:
        answer = await api.get(path)
    assert answer.status == 404
    assert "no such subscriber" in answer.body["detail"]
