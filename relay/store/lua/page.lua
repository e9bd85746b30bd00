-- A page of each of some sorted sets, beyond a place in its order: by score, members of one score by their bytes.
--
-- KEYS  sorted sets
-- ARGV  'after' or 'before' (in reverse), how many at the most, then per key: score and member of the place
-- Returns  per key {member, score, member, score...}
--
-- The place is found by halving, whether anything still stands there or not: a score may be that of a hundred thousand
-- members, and no command finds one's neighbours by name.
local order, count = ARGV[1], tonumber(ARGV[2])

-- Bytes, as the sets are sorted: `<` would compare by the server's locale.
local function is_below(one, other)
  for k = 1, #one do
    local a, b = string.byte(one, k), string.byte(other, k)
    if a ~= b then return b ~= nil and a < b end
  end
  return #one < #other
end
local function rank(key, score, member)
  local low, high = redis.call('ZCOUNT', key, '-inf', '(' .. score), redis.call('ZCOUNT', key, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local found = redis.call('ZRANGE', key, middle, middle)[1]
    if is_below(found, member) or (order == 'after' and found == member) then low = middle + 1 else high = middle end
  end
  return low
end

local pages = {}
for k, key in ipairs(KEYS) do
  local at = rank(key, ARGV[2 * k + 1], ARGV[2 * k + 2])
  if order == 'after' then
    pages[k] = redis.call('ZRANGE', key, at, at + count - 1, 'WITHSCORES')
  elseif at == 0 then
    pages[k] = {}
  else
    local size = redis.call('ZCARD', key)
    pages[k] = redis.call('ZREVRANGE', key, size - at, size - at + count - 1, 'WITHSCORES')
  end
end
return pages
