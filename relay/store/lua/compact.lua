-- Write a stream anew, in portions, some of its entries with another value: nothing else frees the bytes that stood
-- there before. The last portion puts the copy in the stream's place.
--
-- KEYS  1 stream   2 where the copy grows   3 who writes it   4 where the former stream goes
-- ARGV  writer, place up to which it has copied ('' = it begins), place up to which this call copies ('+' = to the end,
--       and the copy takes the stream's place then), how many entries at the most (0: only say who writes),
--       ms after which what is left is gone if the writer dies, name of a field,
--       then per entry to change: place, new value of that field
-- Returns  {'MOVED'}  somebody else writes, or did meanwhile, or the store has lost some of the copy: begin again
--          {'AT', place up to which it has been copied now, 1 if that was all up to where this call copies, else 0}
--          {'DONE'}   the copy is the stream now
--
-- The stream is only appended to and trimmed meanwhile, so what has been copied stays true; what was trimmed since does
-- not come back. The last entries and the exchange are one step, so nothing that is appended gets lost. The copy keeps
-- the places, the last one that was given out and the count of all that ever stood there (servers before Redis 7.0 have
-- none). A crash leaves the stream as it was.
local stream, copy, former = KEYS[1], KEYS[2], KEYS[4]
local writer, at, reach, left, ttl, field = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local held_by = redis.call('GET', KEYS[3])
if at == '' then
  if held_by and held_by ~= writer then return { 'MOVED' } end
  redis.call('UNLINK', copy)
else
  local last = redis.call('XREVRANGE', copy, '+', '-', 'COUNT', 1)[1]
  if held_by ~= writer or not last or last[1] ~= at then return { 'MOVED' } end
end
redis.call('SET', KEYS[3], writer, 'PX', ttl)

local changed = {}
for k = 7, #ARGV, 2 do changed[ARGV[k]] = ARGV[k + 1] end
local finished = false
while left > 0 and not finished do
  local count = math.min(left, 200)
  local chunk = redis.call('XRANGE', stream, at == '' and '-' or '(' .. at, reach, 'COUNT', count)
  for _, entry in ipairs(chunk) do
    local place, fields = entry[1], entry[2]
    for k = 1, #fields, 2 do
      if fields[k] == field and changed[place] then fields[k + 1] = changed[place] end
    end
    redis.call('XADD', copy, place, unpack(fields))
    at = place
  end
  left, finished = left - #chunk, #chunk < count
end
redis.call('PEXPIRE', copy, ttl)
if reach ~= '+' or not finished then return { 'AT', at, finished and 1 or 0 } end

local info, flat = {}, redis.call('EXISTS', stream) == 1 and redis.call('XINFO', 'STREAM', stream) or {}
for k = 1, #flat, 2 do info[flat[k]] = flat[k + 1] end
local first = info['first-entry']
if first then
  redis.call('XTRIM', copy, 'MINID', first[1])
  local last, added = info['last-generated-id'], info['entries-added']
  if added then
    redis.call('XSETID', copy, last, 'ENTRIESADDED', added, 'MAXDELETEDID', info['max-deleted-entry-id'])
  else
    redis.call('XSETID', copy, last)
  end
  redis.call('RENAME', stream, former)
  redis.call('RENAME', copy, stream)
  redis.call('PERSIST', stream)
end
redis.call('UNLINK', copy, former, KEYS[3]) -- in the background: the former one may be large
return { 'DONE' }
