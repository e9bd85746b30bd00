#!lua flags=allow-oom
-- Remove the oldest events with their payloads and what leads to them, and note how far that went.
--
-- KEYS  1 log   2 meta   3 payloads   4.. index and timeline buckets
-- ARGV  place of the last event to remove, the place after it, length of the tag before a place in a timeline bucket,
--       then per event: place, key number of its index bucket, id, key number of its timeline bucket
-- Returns  how many were removed
--
-- Whoever reads the log from an older place is told by that note that something is missing, so it is written in the
-- same step, and never goes back. Removing comes first: where memory is full, a server without flags lets a script
-- write only what follows that.
local function parts(place)
  local ms, no = string.match(place, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(no)
end
local last_ms, last_no = parts(ARGV[1])
local function is_old(place)
  local ms, no = parts(place)
  return ms < last_ms or (ms == last_ms and no <= last_no)
end
local removed = redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2])
local tag = tonumber(ARGV[3])
for at = 4, #ARGV, 4 do
  redis.call('HDEL', KEYS[3], ARGV[at])
  redis.call('HDEL', KEYS[tonumber(ARGV[at + 1])], ARGV[at + 2])
  local line = KEYS[tonumber(ARGV[at + 3])]
  local head = redis.call('LINDEX', line, 0)
  while head and is_old(string.sub(head, tag + 1)) do
    redis.call('LPOP', line)
    head = redis.call('LINDEX', line, 0)
  end
end
if not is_old(redis.call('HGET', KEYS[2], 'trimmed') or '0-0') then return removed end
redis.call('HSET', KEYS[2], 'trimmed', ARGV[1])
return removed
