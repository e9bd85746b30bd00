"""All that waits sent again, where most of it waits for something else than its time."""

from typing import Any

import pytest
from redis.asyncio import Redis

from relay.admin.dead_letters import Conditions
from relay.admin.ledger import Ledger
from relay.admin.redelivery import BATCH, Redelivery
from relay.core.log import SHELVED_MS, Place, Waiting
from relay.core.subscriber import Subscriber
from relay.store import Store
from relay.store.keys import Keys, shard_of
from tests.store.minting import Minter

FAR_MS = 4_000_000_000_000


async def test_what_is_put_off_is_not_even_read(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call ends where the shelf begins, however long that is; what waits for its time goes out."""
    store = Store(redis_client)
    await store.registry.create(Subscriber(id="a", url="http://127.0.0.1:9"))
    await Minter(store).mint(3)
    entries = await store.log.before(None, 3)
    due = {str(Waiting("a", one.place, 2)): FAR_MS for one in entries}
    shelf = {str(Waiting("a", Place(1_700_000_000_000, number), 2)): SHELVED_MS for number in range(5 * BATCH)}
    await redis_client.zadd(Keys().retries(shard_of("a")), due | shelf)
    read, calls = store.deliveries.waiting_after, []

    async def counted(*args: Any) -> Any:
        calls.append(args)
        return await read(*args)

    monkeypatch.setattr(store.deliveries, "waiting_after", counted)
    assert await Redelivery(store, Ledger(store, 3)).waiting(["a"], Conditions()) == 3
    assert len(calls) == 1
    assert await redis_client.zcount(Keys().retries(shard_of("a")), SHELVED_MS, SHELVED_MS) == len(shelf)
