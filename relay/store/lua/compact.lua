-- Write a stream anew, some of its entries with another value: nothing else frees the bytes that stood there before.
--
-- KEYS  1 stream   2 where the copy grows
-- ARGV  name of a field, then per entry to change: place, new value of that field
-- Returns  how many entries the stream has
--
-- One step, so that nothing is appended meanwhile. The copy keeps the places, the last one that was given out and the
-- count of all that ever stood there (servers before Redis 7.0 have none).
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local field, changed = ARGV[1], {}
for at = 2, #ARGV, 2 do changed[ARGV[at]] = ARGV[at + 1] end
redis.call('DEL', KEYS[2])
local start, count = '-', 0
while true do
  local chunk = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', 200)
  for _, entry in ipairs(chunk) do
    local place, fields = entry[1], entry[2]
    for k = 1, #fields, 2 do
      if fields[k] == field and changed[place] then fields[k + 1] = changed[place] end
    end
    redis.call('XADD', KEYS[2], place, unpack(fields))
    count = count + 1
  end
  if #chunk < 200 then break end
  start = '(' .. chunk[#chunk][1]
end
if count == 0 then return 0 end
local info, flat = {}, redis.call('XINFO', 'STREAM', KEYS[1])
for k = 1, #flat, 2 do info[flat[k]] = flat[k + 1] end
local last, added = info['last-generated-id'], info['entries-added']
if added then
  redis.call('XSETID', KEYS[2], last, 'ENTRIESADDED', added, 'MAXDELETEDID', info['max-deleted-entry-id'])
else
  redis.call('XSETID', KEYS[2], last)
end
redis.call('RENAME', KEYS[2], KEYS[1])
return count
