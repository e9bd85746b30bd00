#!lua flags=allow-oom
-- Remove the oldest events together with their payloads and their index, and note how far that went.
--
-- KEYS  1 log   2 meta   3 payloads   4.. index buckets
-- ARGV  place of the last event to remove, the place after it,
--       then per event: place, key number of its index bucket, id
-- Returns  how many were removed
--
-- Whoever reads the log from an older place is told by that note that something is missing, so it is written in the
-- same step, and never goes back. Removing comes first: where memory is full, a server without flags lets a script
-- write only what follows that.
local removed = redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2])
for at = 3, #ARGV, 3 do
  redis.call('HDEL', KEYS[3], ARGV[at])
  redis.call('HDEL', KEYS[tonumber(ARGV[at + 1])], ARGV[at + 2])
end
local function parts(place)
  local ms, no = string.match(place, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(no)
end
local ms, no = parts(ARGV[1])
local noted_ms, noted_no = parts(redis.call('HGET', KEYS[2], 'trimmed') or '0-0')
if ms > noted_ms or (ms == noted_ms and no > noted_no) then redis.call('HSET', KEYS[2], 'trimmed', ARGV[1]) end
return removed
