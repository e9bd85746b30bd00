#!lua flags=allow-oom
-- Begin a request that carries an idempotency key, unless it was carried out or is under way.
--
-- KEYS  1 record   2 salt
-- ARGV  fingerprint of the body, owner, hold_ms, ttl_ms, now_ms ('' = the server's TIME), a new salt
-- Returns  {'begun', seed, salt} | {'answered', answer, salt} | {'under way'} | {'other'}
--
-- Fields: f fingerprint, s seed (the first owner: the same for every try), o owner, u held until (ms),
-- r 1 = not the first try, a answer ('' = none is kept).
-- The salt is that of the keys which seal answers. It is read here, before the request is carried out: if an erasure
-- removes it meanwhile, what this request keeps can be opened by nobody.
-- One step, so that of several at once one begins. The record lives for ttl_ms from its first try on, whatever follows.
-- A repeat by the same owner is harmless.
-- Allowed when memory is full: a subscriber that fills it must be disabled or deleted then, with a key too.
local fingerprint, owner, hold, ttl, now = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
redis.call('SET', KEYS[2], ARGV[6], 'NX')
local salt = redis.call('GET', KEYS[2])
local f, s, o, u, a = unpack(redis.call('HMGET', KEYS[1], 'f', 's', 'o', 'u', 'a'))
if not f then
  redis.call('HSET', KEYS[1], 'f', fingerprint, 's', owner, 'o', owner, 'u', string.format('%.0f', now + hold))
  redis.call('PEXPIRE', KEYS[1], ttl)
  return { 'begun', owner, salt }
end
if f ~= fingerprint then return { 'other' } end
if a then return { 'answered', a, salt } end
if o ~= owner then
  if tonumber(u) > now then return { 'under way' } end
  redis.call('HSET', KEYS[1], 'o', owner, 'u', string.format('%.0f', now + hold), 'r', '1')
end
return { 'begun', s, salt }
