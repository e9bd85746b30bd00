#!lua flags=allow-oom
-- Begin a request that carries an idempotency key, unless it was carried out or is under way.
--
-- KEYS  1 record
-- ARGV  fingerprint of the body, owner, hold_ms, ttl_ms, now_ms ('' = the server's TIME)
-- Returns  {'begun', seed} | {'answered', answer} | {'under way', ms until it may be taken over} | {'other'}
--
-- Fields: f fingerprint, s seed (the first owner: the same for every try), o owner, u held until (ms),
-- r 1 = not the first try, a answer.
-- One step, so that of several at once one begins. The record lives for ttl_ms from its first try on, whatever follows.
-- A repeat by the same owner is harmless.
-- Allowed when memory is full: a subscriber that fills it must be disabled or deleted then, with a key too.
local fingerprint, owner, hold, ttl, now = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local f, s, o, u, a = unpack(redis.call('HMGET', KEYS[1], 'f', 's', 'o', 'u', 'a'))
if not f then
  redis.call('HSET', KEYS[1], 'f', fingerprint, 's', owner, 'o', owner, 'u', string.format('%.0f', now + hold))
  redis.call('PEXPIRE', KEYS[1], ttl)
  return { 'begun', owner }
end
if f ~= fingerprint then return { 'other' } end
if a then return { 'answered', a } end
if o ~= owner then
  if tonumber(u) > now then return { 'under way', tonumber(u) - now } end
  redis.call('HSET', KEYS[1], 'o', owner, 'u', string.format('%.0f', now + hold), 'r', '1')
end
return { 'begun', s }
