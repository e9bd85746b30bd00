#!lua flags=allow-oom
-- Join, renew and take leases: one step, so that two replicas never hold the same thing.
--
-- KEYS  1 lease   2 epoch   3.. the fences of the sources, in the order of ARGV
-- ARGV  owner, ttl_ms, now_ms ('' = the server's TIME), roles,
--       n, n source resources,  n, n shard resources,  n, n resources to give back,  n, n owners known dead
-- Returns  {now_ms, share of sources, share of shards, resource, token, resource, token, ...} (what this owner holds)
--
-- Fields of the lease: '@owner' = roles:expiry, and resource = token:owner, which lives as long as that owner does, so
-- a renewal writes one field. (A third part, the expiry, is what former versions wrote; it counts where it stands.)
-- No roles: leave, and give everything back.
-- A token is max(last + 1, now), above the resource's former one: it grows even if the counter was lost.
-- Taking a source raises its fence here, before the taker can read any state, so that a former holder's
-- late mint can no longer slip in between that read and the taker's first mint.
-- A repeat is harmless: what is held already stays (and its fence is mended, should it have been lost).
local owner, ttl, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local roles = ARGV[4]
local at = 5
local function list()
  local n = tonumber(ARGV[at])
  local items = {}
  for k = 1, n do items[k] = ARGV[at + k] end
  at = at + n + 1
  return items
end
local sources, shards, give_back, dead = list(), list(), list(), {}
for _, name in ipairs(list()) do dead[name] = true end

local replicas = { poll = 0, deliver = 0 }
local leases, expiries = {}, {}
local flat = redis.call('HGETALL', KEYS[1])
for k = 1, #flat, 2 do
  local field, value = flat[k], flat[k + 1]
  if string.sub(field, 1, 1) == '@' then
    local its_roles, expiry = string.match(value, '^([^:]*):(%d+)$')
    if dead[string.sub(field, 2)] or tonumber(expiry) <= now then
      redis.call('HDEL', KEYS[1], field)
    else
      expiries[string.sub(field, 2)] = tonumber(expiry)
      if field ~= '@' .. owner then
        for role in string.gmatch(its_roles, '%a+') do replicas[role] = (replicas[role] or 0) + 1 end
      end
    end
  else
    local token, holder, expiry = string.match(value, '^(%d+):([^:]*):?(%d*)$')
    leases[field] = { token = token, holder = holder, expiry = tonumber(expiry) }
  end
end
for _, lease in pairs(leases) do
  lease.live = not dead[lease.holder] and (lease.expiry or expiries[lease.holder] or 0) > now
end
for _, resource in ipairs(give_back) do
  if leases[resource] and leases[resource].holder == owner then
    redis.call('HDEL', KEYS[1], resource)
    leases[resource] = nil
  end
end
if roles == '' then
  redis.call('HDEL', KEYS[1], '@' .. owner)
  for resource, lease in pairs(leases) do
    if lease.holder == owner then redis.call('HDEL', KEYS[1], resource) end
  end
  return { tostring(now), '0', '0' }
end
redis.call('HSET', KEYS[1], '@' .. owner, roles .. ':' .. (now + ttl))
for role in string.gmatch(roles, '%a+') do replicas[role] = (replicas[role] or 0) + 1 end

local held, kept = {}, {}
local function hold(resource, token)
  local lease = leases[resource]
  if not (lease and lease.holder == owner and not lease.expiry) then
    redis.call('HSET', KEYS[1], resource, token .. ':' .. owner)
  end
  kept[resource] = true
  held[#held + 1] = resource
  held[#held + 1] = token
end
local function fenced_at(fence) return tonumber(string.match(redis.call('GET', fence) or '0:0', '^(%d+):')) end
local function new_token(former, fence)
  local token = math.max(tonumber(redis.call('GET', KEYS[2]) or '0') + 1, now, former + 1)
  if fence then token = math.max(token, fenced_at(fence) + 1) end
  local text = string.format('%d', token)
  redis.call('SET', KEYS[2], text)
  if fence then redis.call('SET', fence, text .. ':0') end
  return text
end
local function serve(resources, share, fenced)
  local mine = 0
  for k, resource in ipairs(resources) do
    local lease = leases[resource]
    if lease and lease.holder == owner then
      mine = mine + 1
      if fenced and fenced_at(KEYS[2 + k]) < tonumber(lease.token) then
        redis.call('SET', KEYS[2 + k], lease.token .. ':0')
      end
      hold(resource, lease.token)
    end
  end
  for k, resource in ipairs(resources) do
    local lease = leases[resource]
    if mine < share and not (lease and (lease.live or lease.holder == owner)) then
      mine = mine + 1
      hold(resource, new_token(lease and tonumber(lease.token) or 0, fenced and KEYS[2 + k] or nil))
    end
  end
end
local function share_of(n, among) return math.ceil(n / math.max(among, 1)) end
local source_share = string.find(roles, 'poll') and share_of(#sources, replicas.poll) or 0
local shard_share = string.find(roles, 'deliver') and share_of(#shards, replicas.deliver) or 0
serve(sources, source_share, true)
serve(shards, shard_share, false)
for resource, lease in pairs(leases) do
  -- What this owner does not ask for any more would live as long as it does.
  if lease.holder == owner and not kept[resource] then redis.call('HDEL', KEYS[1], resource) end
end
local answer = { string.format('%d', now), tostring(source_share), tostring(shard_share) }
for _, item in ipairs(held) do answer[#answer + 1] = item end
return answer
