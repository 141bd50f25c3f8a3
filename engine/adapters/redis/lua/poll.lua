-- poll: all that a keeper goes by, in one call; with it the keeper asks to be the one that acts, until a moment.
--
-- keys  keeper, supervisors, due, expiring, ended COMPLETED, ended FAILED, ended CANCELLED, ended TIMEOUT,
--       cancels, schema
-- args  keeper, until_ms (not later than now_ms: stand down), now_ms, version of the format that the keeper writes,
--       base of the channels
-- gives LEADS | FOLLOWS, {supervisor, lease end in ms, …}, and in ms the moment at which the first task is due,
--       expires, may be removed; '' where there is none; how many tasks were to be cancelled while they ran; and
--       'version oldest' of the format as stored. A keeper that does not know the format never leads. One that writes a
--       newer one raises it, and has supervisors connect again, so that those which do not know it stay away.
local keeper, until_ms, now_ms, version, base = unpack(ARGV)
local leader, is_over = leader_of(KEYS[1], until_ms, now_ms), tonumber(until_ms) <= tonumber(now_ms)

-- A key that somebody has written something else to must not keep the keeper from its other duties.
local function first(key)
  return redis.pcall('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or ''
end

local function size(key)
  local count = redis.pcall('HLEN', key)
  return type(count) == 'number' and count or 0
end

local removal
for i = 5, 8 do
  local moment = tonumber(first(KEYS[i]))
  if moment and (not removal or moment < removal) then removal = moment end
end
local leases = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
local answer = { 'FOLLOWS', leases, first(KEYS[3]), first(KEYS[4]), removal and tostring(removal) or '',
  size(KEYS[9]), redis.call('GET', KEYS[10]) or '' }
local stored, oldest = string.match(answer[7], '^(%d+) (%d+)$')
if tonumber(oldest or 1) > tonumber(version) then return answer end
if (leader or is_over) and leader ~= keeper then return answer end
------------------------------------------------------------------- write
if not take_lead(KEYS[1], keeper, until_ms, now_ms) then return answer end
answer[1] = 'LEADS'
if tonumber(stored or 0) < tonumber(version) then
  redis.call('DEL', KEYS[10])
  redis.call('SET', KEYS[10], version .. ' ' .. version)
  for i = 1, stored and #leases or 0, 2 do redis.call('PUBLISH', base .. 'bell:' .. leases[i], '#') end
end
return answer
