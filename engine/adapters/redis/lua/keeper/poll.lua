-- poll: all that a keeper goes by, in one call. With it the keeper asks to be the one that acts, until a moment.
--
-- until_ms: not later than now_ms to stand down. version: of the format that the keeper writes.
-- reads_from: the oldest one that it reads
-- gives LEADS | FOLLOWS, {supervisor, lease end in ms, …}, and in ms the moment at which the first task is due,
--       expires, may be removed; '' where there is none; how many tasks were to be cancelled while they ran; and
--       'version oldest' of the format as stored. A keeper that cannot read the format never leads. One that writes a
--       newer format raises it, and has supervisors connect again, so that those which do not know it stay away.
-- include: commands
-- include: keys
-- include: leader

-- A key that somebody has overwritten must not keep the keeper from its other duties.
local function first_moment(key)
  return redis.pcall('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or ''
end

local function size(key)
  local count = redis.pcall('HLEN', key)
  return type(count) == 'number' and count or 0
end

local removal
for _, key in ipairs({ KEYS.ended_completed, KEYS.ended_failed, KEYS.ended_cancelled, KEYS.ended_timeout }) do
  local moment = tonumber(first_moment(key))
  if moment and (not removal or moment < removal) then removal = moment end
end
local leases, schema = redis.call('ZRANGE', KEYS.supervisors, 0, -1, 'WITHSCORES'), redis.call('GET', KEYS.schema) or ''
local answer = { 'FOLLOWS', leases, first_moment(KEYS.due), first_moment(KEYS.expiring),
  removal and tostring(removal) or '', size(KEYS.cancel_requests), schema }
local stored, oldest = string.match(schema, '^(%d+) (%d+)$')
if stored and (tonumber(oldest) > tonumber(ARGV.version) or tonumber(stored) < tonumber(ARGV.reads_from)) then
  return answer
end
if not may_take_lead(KEYS.keeper, ARGV.keeper) then return answer end
------------------------------------------------------------------- write
if not take_lead(KEYS.keeper, ARGV.keeper) then return answer end
answer[1] = 'LEADS'
if tonumber(stored or 0) < tonumber(ARGV.version) then
  redis.call('DEL', KEYS.schema)
  redis.call('SET', KEYS.schema, ARGV.version .. ' ' .. ARGV.version)
  for i = 1, stored and #leases or 0, 2 do redis.call('PUBLISH', wakeup_channel(leases[i]), '#') end
end
return answer
