"""Redelivery of what waits for an earlier event of its entity: it keeps its turn, and the answer says so."""

from redis.asyncio import Redis

from relay.core.log import BEHIND_MS
from relay.store.keys import Keys, shard_of
from tests.service.admin_api import admin_api
from tests.service.test_admin_redelivery import first, many, redeliver, waiting


async def test_what_waits_for_an_earlier_event_goes_in_its_turn(redis_client: Redis) -> None:
    """Asked for by itself, with its event or in a reconciliation, it is pending, not made due, and not counted."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe(ordering="entity")
        (entry,) = await api.mint()
        await api.settle(subscriber["id"], cursor=entry, parked=entry)
        retries = Keys().retries(shard_of(subscriber["id"]))
        await redis_client.zadd(retries, {first(subscriber, entry): BEHIND_MS})
        answer = await redeliver(api, subscriber, entry)
        assert (answer.status, answer.body["status"]) == (202, "pending")
        assert answer.body["next_attempt_at"] is None
        assert "earlier event" in answer.body["note"]
        assert await many(api, event_id=entry.event_id, status="pending") == 0
        reconciled = await api.call("POST", f"/v1/subscribers/{subscriber['id']}/reconcile")
        assert (reconciled.status, reconciled.body["sent"]) == (202, 0)
        assert await waiting(api, subscriber) == {first(subscriber, entry): BEHIND_MS}
