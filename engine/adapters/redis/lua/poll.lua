-- poll: all that a keeper goes by, in one call; with it the keeper asks to be the one that acts, until a moment.
--
-- keys  keeper, supervisors, due, expiring, ended COMPLETED, ended FAILED, ended CANCELLED, ended TIMEOUT,
--       cancels
-- args  keeper, until_ms (not later than now_ms: stand down), now_ms
-- gives LEADS | FOLLOWS, {supervisor, lease end in ms, …}, and in ms the moment at which the first task is due, expires,
--       may be removed; '' where there is none; and how many tasks were to be cancelled while they ran
local keeper, until_ms, now_ms = unpack(ARGV)
local is_over = tonumber(until_ms) <= tonumber(now_ms)
-- An end that is further off than anybody could have asked for was dated by a clock that has been set back since.
local latest_ms = 2 * tonumber(until_ms) - tonumber(now_ms)
local leader, its_end = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%d+)$')
local is_led = leader and tonumber(its_end) >= tonumber(now_ms) and tonumber(its_end) <= latest_ms

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
if (is_led or is_over) and leader ~= keeper then return answer end
------------------------------------------------------------------- write
redis.call('DEL', KEYS[1])  -- then the SET goes through even when Redis is full, and the keeper can make room
if is_over then return answer end
redis.call('SET', KEYS[1], keeper .. ' ' .. until_ms)
answer[1] = 'LEADS'
return answer
