#!lua flags=allow-oom
-- Write something, so that a WAIT on the same connection speaks of all that was written before it.
--
-- KEYS  1 gate
-- Returns  how often this was done
--
-- A script, because nothing else may be written when memory is full, and what was minted before is still delivered.
return redis.call('INCR', KEYS[1])
