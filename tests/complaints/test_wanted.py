"""What users of other webhook senders ask for in their public issue trackers.

svix/svix-webhooks. Payload filters (svix#2058) and notice before disabling are tested where the dispatcher is.
"""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest

from relay.store.keys import shard_of
from tests.helpers import wait_until
from tests.service.raw_server import always, serving
from tests.service.rig import Rig


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("as_date", [False, True])
async def test_svix_2199_retry_after_is_honoured(rig: Rig, status: int, *, as_date: bool) -> None:
    """svix#2199: whoever answered 429 was called again by the schedule all the same.

    Here the event waits for as long as was asked, in seconds or as a date, and so does everything else for this
    subscriber; the others go on.
    """
    asked = format_datetime(datetime.now(UTC) + timedelta(seconds=122), usegmt=True) if as_date else "120"
    answer = f"HTTP/1.1 {status} X\r\nretry-after: {asked}\r\ncontent-length: 0\r\n\r\n".encode()
    async with serving(always(answer)) as server:
        subscriber = await rig.subscribe("busy", max_in_flight=1, retry_schedule_s=(0.01, 0.01))
        await rig.change(msgspec.structs.replace(subscriber, url=server.url))
        await rig.subscribe("other")
        replica = await rig.started()
        ids = await rig.minter.mint(20)
        await rig.all_accepted("other", ids)
        await wait_until(lambda: _waits(rig))
        ((_, due_ms),) = await rig.store.deliveries.waiting(shard_of("busy"), 0, 10)
        now_ms = await rig.store.deliveries.now_ms()
        assert 110_000 < due_ms - now_ms <= 123_000
        lane = replica.shards[shard_of("busy")].lanes["busy"]
        assert lane.resting
        assert 110 < (lane.wait_s(replica.clock.monotonic()) or 0) <= 123 * 1.2
        groups = await rig.store.deliveries.attempts(shard_of("busy"))
        assert len([one for _, group in groups for one in group if one.subscriber_id == "busy"]) == 1


async def _waits(rig: Rig) -> bool:
    return bool(await rig._waiting("busy"))
