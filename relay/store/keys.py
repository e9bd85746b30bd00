"""Every Redis key of a relay. One hash tag, so that all of them live in one slot: atomic together, lost together.

| key | type | content |
|---|---|---|
| meta | hash | `wm:` and `status:` of each source; `test:` of each subscriber; `trimmed`; the notes of `disk.py` |
| lease | hash | resource → `token:owner`; `@owner` → `roles:expiry ms` |
| gate | string | how often it was asked whether replicas have what stands here |
| epoch | string | the highest fencing token ever given |
| fence:<source> | string | `token:observation` of the latest mint |
| st:<source>:<bucket> | hash | entity → packed snapshot |
| log | stream | the events: what names them |
| pay | hash | place in the log → what the event says (payload and private fields) |
| ix:<bucket> | hash | event id → place in the log |
| tl:<bucket> | list | tag and place of each event of the entities in this bucket, oldest first |
| ctl | stream | changes of the registry, wake-ups |
| sub | hash | subscribers |
| cur:<shard> | hash | `*` the shard's cursor, one field per subscriber that lags behind it, `#` the last commit |
| rq:<shard> | zset | deliveries waiting for their next attempt, by due time in ms |
| att:<shard> | stream | attempts, packed |
| att:<shard>:copy, :writer, :former | stream, string, stream | while it is written anew, see `rewrite.py` (expire) |
| pulse:<shard> | hash | subscriber → packed `Pulse`: how it has been doing lately |
| att:<shard>:asked | zset | attempts that were asked for by hand, by the ms at which that was |
| idem:<hash> | hash | a request with an idempotency key, and its answer; gone after a day |
| answers | string | salt of the keys that seal these answers; an erasure removes it |
| dl:<subscriber> | zset | dead letters by time of death in ms |
| replaying | hash | subscriber → the replay that runs for it |
| rpl:<subscriber> | hash | replays: id → what was asked for, `id:at`, `id:matched`, `id:sent`, `id:end` |
| n:m:<hour>, n:h:<day> | hash | `PART|NAME` → counter of that minute of the hour, or hour of the day (expire) |
"""

import zlib

SHARDS = 32
STATE_BUCKETS = 4096
"""Fixed: at 400,000 entities a bucket holds about 100, the size up to which Redis packs a hash tightly."""

TIMELINE_BUCKETS = 4096
TAG_LENGTH = 4
"""Characters of a tag."""


def shard_of(subscriber_id: str) -> int:
    """Shard that a subscriber belongs to, for ever."""
    return zlib.crc32(subscriber_id.encode()) % SHARDS


class Keys:
    """Names of the keys of one relay (namespace)."""

    def __init__(self, namespace: str = "relay") -> None:
        self._prefix = prefix = f"{{{namespace}}}:"
        self.meta = prefix + "meta"
        self.lease = prefix + "lease"
        self.epoch = prefix + "epoch"
        self.log = prefix + "log"
        self.payloads = prefix + "pay"
        self.ctl = prefix + "ctl"
        self.sub = prefix + "sub"
        self.gate = prefix + "gate"
        self.answers = prefix + "answers"
        self.replaying = prefix + "replaying"
        self.counters = prefix + "n:"

    def minutes(self, hour: int) -> str:
        """Counters of each minute of an hour (hours since 1970), under the name that `count.lua` gives it."""
        return f"{self.counters}m:{hour}"

    def hours(self, day: int) -> str:
        """Counters of each hour of a day (days since 1970)."""
        return f"{self.counters}h:{day}"

    def fence(self, source: str) -> str:
        """Fence of a source."""
        return f"{self._prefix}fence:{source}"

    def state(self, source: str, entity_id: str) -> str:
        """Bucket that holds an entity's snapshot."""
        return self.state_bucket(source, zlib.crc32(entity_id.encode()) % STATE_BUCKETS)

    def state_bucket(self, source: str, bucket: int) -> str:
        """One bucket of snapshots."""
        return f"{self._prefix}st:{source}:{bucket:x}"

    def index(self, event_id: str) -> str:
        """Bucket that holds an event's place in the log (32,768 of them, by the id's first 15 bits)."""
        return f"{self._prefix}ix:{event_id[4:7]}"

    def timeline(self, source: str, entity_id: str) -> tuple[str, str]:
        """Bucket that holds the places of an entity's events, and the tag before its places there.

        A bucket is a few kilobytes per million events; the tag leaves out nearly all that is other entities'. So a
        timeline costs 24 bytes per event, nothing per entity, and one read to find.
        """
        digest = zlib.crc32(f"{source}/{entity_id}".encode())
        return f"{self._prefix}tl:{digest % TIMELINE_BUCKETS:x}", f"{digest >> 16:04x}"

    def cursors(self, shard: int) -> str:
        """Cursors of a shard."""
        return f"{self._prefix}cur:{shard}"

    def retries(self, shard: int) -> str:
        """Deliveries of a shard that wait for their next attempt."""
        return f"{self._prefix}rq:{shard}"

    def attempts(self, shard: int) -> str:
        """Attempts of a shard."""
        return f"{self._prefix}att:{shard}"

    def asked(self, shard: int) -> str:
        """When attempts of a shard were asked for by hand."""
        return f"{self.attempts(shard)}:asked"

    def pulses(self, shard: int) -> str:
        """How subscribers of a shard have been doing lately."""
        return f"{self._prefix}pulse:{shard}"

    def replays(self, subscriber_id: str) -> str:
        """Replays of a subscriber."""
        return f"{self._prefix}rpl:{subscriber_id}"

    def idempotency(self, record: str) -> str:
        """A request with an idempotency key."""
        return f"{self._prefix}idem:{record}"

    def dead(self, subscriber_id: str) -> str:
        """Dead letters of a subscriber."""
        return f"{self._prefix}dl:{subscriber_id}"
