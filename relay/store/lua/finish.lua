#!lua flags=allow-oom
-- Say what a request with an idempotency key has come to, or that it is still under way.
--
-- KEYS  1 record
-- ARGV  owner, 'done' | 'refused' | 'failed' | 'held', hold_ms (held), now_ms ('' = the server's TIME)
-- Returns  1, or 0 if somebody else has taken the request over, or its time is over
--
-- Done: it was carried out, and no answer is kept (`keep.lua` keeps one). Refused: it has changed nothing, so the key is free again, for another body too; unless an earlier try may have
-- changed something: then its seed is kept. Failed: whoever repeats it begins at once, with the same seed.
-- The record's time to live is not touched. A repeat is harmless.
local owner, what = ARGV[1], ARGV[2]
if redis.call('HGET', KEYS[1], 'o') ~= owner then return 0 end
if what == 'done' then
  redis.call('HSET', KEYS[1], 'a', '')
elseif what == 'refused' and redis.call('HEXISTS', KEYS[1], 'r') == 0 then
  redis.call('DEL', KEYS[1])
elseif what == 'held' then
  local now = tonumber(ARGV[4])
  if not now then
    local t = redis.call('TIME')
    now = t[1] * 1000 + math.floor(t[2] / 1000)
  end
  redis.call('HSET', KEYS[1], 'u', string.format('%.0f', now + tonumber(ARGV[3])))
else
  redis.call('HSET', KEYS[1], 'u', '0')
end
return 1
