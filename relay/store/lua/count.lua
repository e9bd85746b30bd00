-- Add to the counters of this minute and of this hour; by the server's clock, so that all replicas agree.
--
-- stem   declared by the script among its KEYS; the clock completes it. One hash tag: the same slot.
-- counts  {name, how many, name, how many, ...}
--
-- Minutes are kept for 25 hours (one hash per hour), hours for 8 days (one hash per day). A script calls this last:
-- it is of no consequence for anybody's delivery whether the counters can be written.
local function count(stem, counts)
  local now = tonumber(redis.call('TIME')[1])
  local function add(key, part, keep_s)
    local fresh = redis.call('EXISTS', key) == 0
    for at = 1, #counts, 2 do redis.pcall('HINCRBY', key, part .. '|' .. counts[at], counts[at + 1]) end
    if fresh and #counts > 0 then redis.call('EXPIRE', key, keep_s) end
  end
  add(stem .. 'm:' .. math.floor(now / 3600), math.floor(now / 60) % 60, 25 * 3600)
  add(stem .. 'h:' .. math.floor(now / 86400), math.floor(now / 3600) % 24, 8 * 86400)
end
