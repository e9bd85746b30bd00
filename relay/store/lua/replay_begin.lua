-- Begin a replay for a subscriber for which none is running.
--
-- KEYS  1 subscribers   2 running replays   3 replays of this subscriber   4 ctl
-- ARGV  subscriber, id, what was asked for (packed), place that it begins after, ids of old ones to forget...
-- Returns  the id of the replay that runs now: this one (a repeat is harmless), or the one in the way;
--          '' if there is no such subscriber. In both latter cases nothing was changed.
--
-- One step, so that two callers never begin two, and that no replay is written of which nobody is told.
local subscriber, id = ARGV[1], ARGV[2]
if redis.call('HEXISTS', KEYS[1], subscriber) == 0 then return '' end
local running = redis.call('HGET', KEYS[2], subscriber)
if running then return running end
redis.call('XLEN', KEYS[4])
redis.call('HSET', KEYS[3], id, ARGV[3], id .. ':at', ARGV[4], id .. ':matched', 0, id .. ':sent', 0)
for at = 5, #ARGV do
  local old = ARGV[at]
  redis.call('HDEL', KEYS[3], old, old .. ':at', old .. ':matched', old .. ':sent', old .. ':end')
end
redis.call('HSET', KEYS[2], subscriber, id)
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 10000, '*', 'k', 'replay', 'v', subscriber)
return id
