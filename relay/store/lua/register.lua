#!lua flags=allow-oom
-- Create, change or delete a subscriber, and tell every replica.
--
-- KEYS  1 subscribers   2 ctl   3 log   4 cursors of its shard   5 its dead letters
--       6 running replays   7 its replays   8 stem of the counters   9 meta
--       10 pulses of its shard   11 index bucket of the event (if there is one)   12 timeline bucket of its entity
-- ARGV  id, expected document ('' = must not exist), new document ('' = delete),
--       and, if an event tells of the change: its id, type, source, entity, payload, tag
-- Returns  1 done (or done before: a repeat is harmless), 0 the document has changed meanwhile
--
-- Allowed when memory is full: a subscriber that fills it must be disabled or deleted then.
-- A new subscriber's cursor is the log's end at this very moment: it gets what is minted from now on.
-- include: count
local id, expected, new = ARGV[1], ARGV[2], ARGV[3]
local current = redis.call('HGET', KEYS[1], id) or ''
if current == new then return 1 end
if current ~= expected then return 0 end
if new == '' then
  redis.call('HDEL', KEYS[1], id)
  redis.call('HDEL', KEYS[4], id)
  redis.call('DEL', KEYS[5], KEYS[7])
  redis.call('HDEL', KEYS[6], id)
  redis.call('HDEL', KEYS[9], 'test:' .. id)
  redis.call('HDEL', KEYS[10], id)
else
  if current == '' then
    local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
    redis.call('HSET', KEYS[4], id, last[1] and last[1][1] or '0-0')
  end
  redis.call('HSET', KEYS[1], id, new)
end
if ARGV[4] then
  local place = redis.call('XADD', KEYS[3], '*', 'i', ARGV[4], 't', ARGV[5], 's', ARGV[6], 'e', ARGV[7], 'p', ARGV[8])
  redis.call('HSET', KEYS[11], ARGV[4], place)
  redis.call('RPUSH', KEYS[12], ARGV[9] .. place)
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'k', 'subscriber', 'v', id)
if ARGV[4] then count(KEYS[8], { 'e:' .. ARGV[6], 1 }) end
return 1
