-- Keep the answer of a request with an idempotency key.
--
-- KEYS  1 record
-- ARGV  owner, answer
-- Returns  1, or 0 if somebody else has taken the request over, or its time is over
--
-- One step, so that a late answer does not replace a successor's. A repeat is harmless.
-- Not allowed when memory is full, unlike `finish.lua`: answers must not fill what is left.
if redis.call('HGET', KEYS[1], 'o') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'a', ARGV[2])
return 1
