#!lua flags=allow-oom
-- List events as dead letters of a subscriber.
--
-- KEYS  1 subscribers   2 its dead letters
-- ARGV  subscriber, time of death in ms, places...
-- Returns  1, or 0 if there is no such subscriber: nobody would ever list them, nor remove them
--
-- One that is listed keeps its time, so a repeat is harmless. Allowed when memory is full: it comes before the trimming
-- that makes room.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
for at = 3, #ARGV do redis.call('ZADD', KEYS[2], 'NX', ARGV[2], ARGV[at]) end
return 1
