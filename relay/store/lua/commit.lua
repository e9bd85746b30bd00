#!lua flags=allow-oom
-- Settle a group of deliveries of one shard: cursors, retries, dead letters and attempts in one step.
--
-- KEYS  1 lease   2 cursors   3 retries   4 attempts   5 stem of the counters   6 subscribers   7 pulses
--       8.. dead letters
-- ARGV  resource, token, mark of this commit, mark of the commit that it follows ('*' = any),
--       n, n pairs of due ms and retry,
--       n, n times subscriber, key number of its dead letters, time of death in ms, place,
--       n, n retries to drop,
--       packed attempts ('' = none), oldest attempt to keep in ms,
--       n, n cursor fields to drop,   n, n pairs of cursor field and place,
--       n, n pairs of subscriber and packed pulse,   then pairs of counter and how many
-- Returns  'FENCED' (somebody else holds the shard: nothing was changed), 'ALREADY' (a repeat),
--          'LOST' (the latest commit here is not the one that this follows: the store has lost some, or the caller
--          remembers another shard; nothing was changed), or 'OK'
--
-- The mark makes a repeat after a lost reply harmless. Nothing is undone if a command fails, so what becomes
-- of a delivery is written first, then the cursors that pass it, and the mark last: an error loses nothing.
-- include: count
local lease = redis.call('HGET', KEYS[1], ARGV[1])
if not lease or string.match(lease, '^(%d+):') ~= ARGV[2] then return 'FENCED' end
local mark, follows = ARGV[3], ARGV[4]
local stands = redis.call('HGET', KEYS[2], '#') or ''
if stands == mark then return 'ALREADY' end
if follows ~= '*' and stands ~= follows then return 'LOST' end
local at = 5
local function take()
  local value = ARGV[at]
  at = at + 1
  return value
end
for _ = 1, tonumber(take()) do redis.call('ZADD', KEYS[3], take(), take()) end
for _ = 1, tonumber(take()) do
  local subscriber, key, died, place = take(), KEYS[tonumber(take())], take(), take()
  -- Of one that was deleted meanwhile nobody would ever list it, nor remove it.
  if redis.call('HEXISTS', KEYS[6], subscriber) == 1 then redis.call('ZADD', key, died, place) end
end
for _ = 1, tonumber(take()) do redis.call('ZREM', KEYS[3], take()) end
local attempts, oldest = take(), take()
if attempts ~= '' then redis.call('XADD', KEYS[4], 'MINID', '~', oldest, '*', 'a', attempts) end
for _ = 1, tonumber(take()) do redis.call('HDEL', KEYS[2], take()) end
for _ = 1, tonumber(take()) do redis.call('HSET', KEYS[2], take(), take()) end
for _ = 1, tonumber(take()) do
  local subscriber, pulse = take(), take()
  if redis.call('HEXISTS', KEYS[6], subscriber) == 1 then redis.call('HSET', KEYS[7], subscriber, pulse) end
end
redis.call('HSET', KEYS[2], '#', mark)
if at <= #ARGV then count(KEYS[5], { unpack(ARGV, at) }) end
return 'OK'
