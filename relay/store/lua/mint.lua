-- Commit snapshots together with the events that tell of them: no crash separates the two.
--
-- KEYS  1 fence   2 log   3 meta   4 payloads   5 stem of the counters   6.. state, index and timeline buckets
-- ARGV  token, observation, observation that this token wrote last ('' = unknown),
--       n, then per change: key number, entity, expected snapshot ('' = none), new snapshot ('' = remove), m,
--          then per event: key numbers of its index and timeline buckets, the entity's tag there,
--          id, type, source, entity, what it says (payload and private fields),
--       n, then n pairs of meta field and value (written only if no change was in conflict)
-- Returns  {'FENCED'}  a newer holder or a newer observation has written: nothing was changed
--          {'LOST'}    the fence stands before that last observation: the store has lost a tail; nothing was changed
--          {'OK', applied, already, entities in conflict...}
--
-- Compare-and-set per entity makes a repeat harmless: what a lost reply left behind is recognised as done.
-- Nothing is undone if a command fails, so everything is read and checked first, and written after that.
-- include: count
local token, observation, last = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local t, o = string.match(redis.call('GET', KEYS[1]) or '0:0', '^(%d+):(%d+)$')
t, o = tonumber(t), tonumber(o)
if token < t or (token == t and observation < o) then return { 'FENCED' } end
if last and (t < token or o < last) then return { 'LOST' } end
redis.call('XLEN', KEYS[2])
redis.call('HLEN', KEYS[3])
redis.call('HLEN', KEYS[4])

local at = 3
local function take()
  at = at + 1
  assert(ARGV[at], 'mint: too few arguments')
  return ARGV[at]
end
local function key()
  local number = tonumber(take())
  assert(KEYS[number], 'mint: no such key')
  return KEYS[number]
end
local stands = {}
local function current(bucket, entity)
  stands[bucket] = stands[bucket] or {}
  return stands[bucket][entity] or redis.call('HGET', bucket, entity) or ''
end
local changes, applied, already, conflicts = {}, 0, 0, {}
for _ = 1, tonumber(take()) do
  local bucket, entity, expected, new = key(), take(), take(), take()
  local stored = current(bucket, entity)
  local events = {}
  for m = 1, tonumber(take()) do
    local event = { key(), key(), take(), take(), take(), take(), take(), take() }
    redis.call('HLEN', event[1])
    redis.call('LLEN', event[2])
    events[m] = event
  end
  if stored == expected then
    stands[bucket][entity] = new
    changes[#changes + 1] = { bucket, entity, new, events }
    applied = applied + 1
  elseif stored == new then
    already = already + 1
  else
    conflicts[#conflicts + 1] = entity
  end
end
local meta = {}
for k = 1, 2 * tonumber(take()) do meta[k] = take() end
assert(at == #ARGV, 'mint: too many arguments')

local minted = {}
redis.call('SET', KEYS[1], string.format('%d:%d', token, observation))
for _, change in ipairs(changes) do
  local bucket, entity, new, events = change[1], change[2], change[3], change[4]
  if new == '' then redis.call('HDEL', bucket, entity) else redis.call('HSET', bucket, entity, new) end
  for _, event in ipairs(events) do
    local index, line, tag, id, kind, source, subject, content = unpack(event)
    local place = redis.call('XADD', KEYS[2], '*', 'i', id, 't', kind, 's', source, 'e', subject)
    redis.call('HSET', index, id, place)
    redis.call('RPUSH', line, tag .. place)
    redis.call('HSET', KEYS[4], place, content)
    minted[source] = (minted[source] or 0) + 1
  end
end
if #conflicts == 0 then
  for k = 1, #meta, 2 do redis.call('HSET', KEYS[3], meta[k], meta[k + 1]) end
end
local counts = {}
for source, n in pairs(minted) do
  counts[#counts + 1], counts[#counts + 2] = 'e:' .. source, n
end
if #counts > 0 then count(KEYS[5], counts) end
local answer = { 'OK', applied, already }
for _, entity in ipairs(conflicts) do answer[#answer + 1] = entity end
return answer
