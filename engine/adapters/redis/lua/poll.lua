-- poll: all that a keeper goes by, in one call; with it the keeper asks to be the one that acts, until a moment.
--
-- keys  keeper, supervisors, due, expiring, ended COMPLETED, ended FAILED, ended CANCELLED, ended TIMEOUT,
--       cancels
-- args  keeper, until_ms (not later than now_ms: stand down), now_ms
-- gives LEADS | FOLLOWS, {supervisor, lease end in ms, …}, and in ms the moment at which the first task is due, expires,
--       may be removed; '' where there is none; and how many tasks were to be cancelled while they ran
local keeper, until_ms, now_ms = unpack(ARGV)
local leader, is_over = leader_of(KEYS[1], until_ms, now_ms), tonumber(until_ms) <= tonumber(now_ms)

local function first(key)
  return redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or ''
end

local removal
for i = 5, 8 do
  local moment = tonumber(first(KEYS[i]))
  if moment and (not removal or moment < removal) then removal = moment end
end
local leases = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
local answer = { 'FOLLOWS', leases, first(KEYS[3]), first(KEYS[4]), removal and tostring(removal) or '',
  redis.call('HLEN', KEYS[9]) }
if (leader or is_over) and leader ~= keeper then return answer end
------------------------------------------------------------------- write
if take_lead(KEYS[1], keeper, until_ms, now_ms) then answer[1] = 'LEADS' end
return answer
