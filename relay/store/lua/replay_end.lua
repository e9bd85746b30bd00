#!lua flags=allow-oom
-- End a replay: it is done, was cancelled, or cannot be carried out.
--
-- KEYS  1 running replays   2 replays of this subscriber   3 ctl
-- ARGV  subscriber, id, how it ended (packed)
-- Returns  1 it ended now, 0 it had ended before (nothing was changed)
--
-- The first end counts: whoever carries it out finds it gone from the running ones at the next step, and stops.
-- Allowed when memory is full: what fills it must be stoppable.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('XLEN', KEYS[3])
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then redis.call('HSET', KEYS[2], ARGV[2] .. ':end', ARGV[3]) end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', 10000, '*', 'k', 'replay', 'v', ARGV[1])
return 1
