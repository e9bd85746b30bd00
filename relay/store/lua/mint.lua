-- Commit snapshots together with the events that tell of them: no crash separates the two.
--
-- KEYS  1 fence   2 log   3 meta   4.. state buckets and index buckets
-- ARGV  token, observation,
--       n, then per change: key number, entity, expected snapshot ('' = none), new snapshot ('' = remove), m,
--          then per event: key number of its index bucket, id, type, source, entity, payload, private fields,
--       n, then n pairs of meta field and value (written only if no change was in conflict)
-- Returns  {'FENCED'}  a newer holder or a newer observation has written: nothing was changed
--          {'OK', applied, already, entities in conflict...}
--
-- Compare-and-set per entity makes a repeat harmless: what a lost reply left behind is recognised as done.
local token, observation = tonumber(ARGV[1]), tonumber(ARGV[2])
local fence = redis.call('GET', KEYS[1])
if fence then
  local t, o = string.match(fence, '^(%d+):(%d+)$')
  t, o = tonumber(t), tonumber(o)
  if token < t or (token == t and observation < o) then return { 'FENCED' } end
end
redis.call('SET', KEYS[1], string.format('%d:%d', token, observation))
local at = 3
local function take()
  local value = ARGV[at]
  at = at + 1
  return value
end
local applied, already, conflicts = 0, 0, {}
for _ = 1, tonumber(take()) do
  local key, entity, expected, new = KEYS[tonumber(take())], take(), take(), take()
  local current = redis.call('HGET', key, entity) or ''
  local apply = current == expected
  if apply then
    if new == '' then redis.call('HDEL', key, entity) else redis.call('HSET', key, entity, new) end
    applied = applied + 1
  elseif current == new then
    already = already + 1
  else
    conflicts[#conflicts + 1] = entity
  end
  for _ = 1, tonumber(take()) do
    local index, id, event_type, source, subject, payload, private =
      KEYS[tonumber(take())], take(), take(), take(), take(), take(), take()
    if apply then
      local place
      if private == '' then
        place = redis.call('XADD', KEYS[2], '*', 'i', id, 't', event_type, 's', source, 'e', subject, 'p', payload)
      else
        place = redis.call('XADD', KEYS[2], '*', 'i', id, 't', event_type, 's', source, 'e', subject, 'p', payload,
          'x', private)
      end
      redis.call('HSET', index, id, place)
    end
  end
end
local n = tonumber(take())
if #conflicts == 0 then
  for _ = 1, n do redis.call('HSET', KEYS[3], take(), take()) end
end
local answer = { 'OK', applied, already }
for _, entity in ipairs(conflicts) do answer[#answer + 1] = entity end
return answer
