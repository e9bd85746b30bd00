-- Send deliveries of one subscriber again: put each among the retries, due now, and wake the holder of its shard.
--
-- KEYS  1 subscribers   2 log   3 retries of its shard   4 when attempts were asked for   5 its dead letters   6 ctl
--       7 payloads
-- ARGV  subscriber, shard, then per delivery: place, kind, number
--         'waiting'  the attempt with this number is due now
--         'dead'     the dead letter is taken out, and a new round begins at attempt 1
--         'settled'  a new round begins at attempt 1, if the last one was asked for at `number` ms (0 = there is none)
-- Returns  per delivery: 1 done, 2 due already, 3 it waits for an earlier event,
--          0 it has changed meanwhile, -1 its event was trimmed or erased; {} no such subscriber
--
-- One step, so that a dead letter is never in two places nor in none. A repeat begins no second round: the first call
-- took the dead letter or left its own time. All is read before anything is written.
-- What waits for an earlier event of its entity keeps its turn: its holder alone knows when that comes.
local BEHIND = 2 ^ 52 + 1 -- core/log.py: BEHIND_MS
local subscriber, shard = ARGV[1], ARGV[2]
if redis.call('HEXISTS', KEYS[1], subscriber) == 0 then return {} end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function waits(member)
  local due = redis.call('ZSCORE', KEYS[3], member)
  due = tonumber(due)
  return due and (due >= BEHIND and 3 or due <= now and 2 or 1)
end
local function decide(place, kind, number)
  local entry = redis.call('XRANGE', KEYS[2], place, place)[1]
  if not entry then return -1 end
  local inside = false
  for k = 1, #entry[2], 2 do inside = inside or entry[2][k] == 'p' end
  if not inside and redis.call('HEXISTS', KEYS[7], place) == 0 then return -1 end
  local dead = redis.call('ZSCORE', KEYS[5], place)
  if kind == 'waiting' then
    local member = subscriber .. '|' .. place .. '|' .. number
    return waits(member) or 0, member
  end
  local member = subscriber .. '|' .. place .. '|1'
  local asked = tonumber(redis.call('ZSCORE', KEYS[4], member) or '0')
  if kind == 'dead' then return dead and 1 or waits(member) or 0, member end
  if waits(member) then return waits(member), member end
  return (dead or asked ~= tonumber(number)) and 0 or 1, member
end

local results, again = {}, {}
for at = 3, #ARGV, 3 do
  local result, member = decide(ARGV[at], ARGV[at + 1], ARGV[at + 2])
  results[#results + 1] = result
  if result == 1 then again[#again + 1] = { member, ARGV[at], ARGV[at + 1] } end
end
redis.call('XLEN', KEYS[6])
local written = string.format('%.0f', now)
for _, one in ipairs(again) do
  if waits(one[1]) ~= 3 then redis.call('ZADD', KEYS[3], written, one[1]) end
  redis.call('ZADD', KEYS[4], written, one[1])
  if one[3] == 'dead' then redis.call('ZREM', KEYS[5], one[2]) end
end
if #again > 0 then redis.call('XADD', KEYS[6], 'MAXLEN', '~', 10000, '*', 'k', 'due', 'v', shard) end
return results
