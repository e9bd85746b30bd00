-- One step of a replay: put the deliveries of some events among the retries, due now, and move on past them.
--
-- KEYS  1 lease   2 running replays   3 replays of this subscriber   4 subscribers   5 log   6 cursors of its shard
--       7 retries of its shard   8 when attempts were asked for   9 its dead letters   10 ctl
-- ARGV  resource, token, subscriber, shard, id ('' = only count), place reached so far, place that this step reaches,
--       'all' or 'undelivered', highest attempt number there can be, then per event in the order of the log:
--       place, 1 (send it if all is done) or 0 (it is acknowledged if all is done)
-- Returns  {'FENCED'}   somebody else holds the shard
--          {'STOPPED'}  the replay has ended, or its subscriber is gone
--          {'MOVED'}    it does not stand where the caller believes: a repeat, or another holder has gone on
--          {'OK', events passed, names of what is due now...}
-- In the first three cases nothing was changed.
--
-- What waits for its time among the retries is due now (what waits for something else is left to that); a dead letter is taken out and begins again at attempt 1; so does what is
-- done, if it is to be sent. What the cursor has not passed goes out by itself: 'undelivered' leaves it alone, 'all'
-- stops before it and comes back, so that it is sent again after it was sent.
-- One step, so that it is decided on what holds now, and that no crash separates the sending from the moving on: none
-- is left out, none is sent twice. All is read before anything is written, and the place is written last.
local NO_TIME = 2 ^ 52 -- core/log.py: SHELVED_MS, and BEHIND_MS above it
local resource, token, subscriber, shard, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local at, reach, all, highest = ARGV[6], ARGV[7], ARGV[8] == 'all', tonumber(ARGV[9])
local dry = id == ''
if not dry then
  local lease = redis.call('HGET', KEYS[1], resource)
  if not lease or string.match(lease, '^(%d+):') ~= token then return { 'FENCED' } end
  if redis.call('HGET', KEYS[2], subscriber) ~= id then return { 'STOPPED' } end
  if redis.call('HEXISTS', KEYS[4], subscriber) == 0 then return { 'STOPPED' } end
  if redis.call('HGET', KEYS[3], id .. ':at') ~= at then return { 'MOVED' } end
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function parse(place)
  local ms, no = string.match(place, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(no)
end
local cursor = redis.call('HGET', KEYS[6], subscriber) or redis.call('HGET', KEYS[6], '*') or '0-0'
local cursor_ms, cursor_no = parse(cursor)
local function is_queued(place)
  local ms, no = parse(place)
  return ms > cursor_ms or (ms == cursor_ms and no > cursor_no)
end
if redis.call('ZCARD', KEYS[7]) == 0 then highest = 0 end
local function waits(stem)
  for no = highest, 1, -1 do
    local due = redis.call('ZSCORE', KEYS[7], stem .. no)
    if due then return stem .. no, tonumber(due) end
  end
end

local passed, names, again = 0, {}, {}
local function send(name, dead)
  names[#names + 1] = name
  again[#again + 1] = { name, dead }
end
for k = 10, #ARGV, 2 do
  local place, unless_acknowledged = ARGV[k], ARGV[k + 1] == '1'
  local stem = subscriber .. '|' .. place .. '|'
  local name, due = waits(stem)
  if #redis.call('XRANGE', KEYS[5], place, place) == 0 then
    name = nil -- it has outlived its retention since it was read
  elseif name then
    if due > now and due < NO_TIME then send(name) elseif due <= now then names[#names + 1] = name end
  elseif redis.call('ZSCORE', KEYS[9], place) then
    send(stem .. '1', place)
  elseif is_queued(place) then
    if all and dry then names[#names + 1] = place end
    if all and not dry then
      if k > 10 then reach = ARGV[k - 2] else reach = at end
      break
    end
  elseif all or (unless_acknowledged and not redis.call('ZSCORE', KEYS[8], stem .. '1')) then
    send(stem .. '1')
  end
  passed = passed + 1
end
local answer = { 'OK', passed, unpack(names) }
if dry or reach == at then return answer end
redis.call('XLEN', KEYS[10])
redis.call('ZCARD', KEYS[8])
for k, one in ipairs(again) do
  -- A millisecond apart, in the order of the log: of equal times the store would sort `-10` before `-9`.
  redis.call('ZADD', KEYS[7], string.format('%.0f', now - #again + k), one[1])
  redis.call('ZADD', KEYS[8], string.format('%.0f', now), one[1])
  if one[2] then redis.call('ZREM', KEYS[9], one[2]) end
end
if #again > 0 then redis.call('XADD', KEYS[10], 'MAXLEN', '~', 10000, '*', 'k', 'due', 'v', shard) end
redis.call('HINCRBY', KEYS[3], id .. ':matched', passed)
redis.call('HINCRBY', KEYS[3], id .. ':sent', #names)
redis.call('HSET', KEYS[3], id .. ':at', reach)
return answer
