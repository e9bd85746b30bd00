-- Change snapshots beside the holder of their source: what they say to the diff stays the same.
--
-- KEYS  state buckets
-- ARGV  per snapshot: key number, entity, expected snapshot, new snapshot
-- Returns  how many were changed; one that is not the expected one is left alone
--
-- Compare-and-set, as in a mint: whoever read the former snapshot gets a conflict, and reads again.
local changed = 0
for at = 1, #ARGV, 4 do
  local bucket, entity = KEYS[tonumber(ARGV[at])], ARGV[at + 1]
  if redis.call('HGET', bucket, entity) == ARGV[at + 2] then
    redis.call('HSET', bucket, entity, ARGV[at + 3])
    changed = changed + 1
  end
end
return changed
