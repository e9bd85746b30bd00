"""A loop that is cancelled while it speaks to the store ends, whatever it was waiting for."""

import asyncio

from relay.store import Store
from relay.store.connect import connect

CUTS = 60


async def test_no_cancellation_is_swallowed(valkey_server: str) -> None:
    """Cancelled at any moment of a load, a task is cancelled; it never goes on as if nothing had been said."""
    for cut in range(CUTS):
        client = connect(valkey_server)
        task = asyncio.create_task(Store(client).snapshots.load("lod"))
        for _ in range(cut):
            await asyncio.sleep(0)
        cancelled = task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == cancelled
        await client.aclose()
