-- lead: be the keeper that acts, until a moment; the others stand by.
--
-- keys  keeper
-- args  keeper, until_ms (not later than now_ms: stand down), now_ms
-- gives LEADS | FOLLOWS
local keeper, until_ms, now_ms = unpack(ARGV)
-- An end that is further off than anybody could have asked for was dated by a clock that has been set back since.
local latest_ms = 2 * tonumber(until_ms) - tonumber(now_ms)
local leader, its_end = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%d+)$')
local leads = leader and tonumber(its_end) >= tonumber(now_ms) and tonumber(its_end) <= latest_ms
if leads and leader ~= keeper then return 'FOLLOWS' end
if tonumber(until_ms) <= tonumber(now_ms) and leader ~= keeper then return 'FOLLOWS' end
------------------------------------------------------------------- write
if tonumber(until_ms) <= tonumber(now_ms) then
  redis.call('DEL', KEYS[1])
  return 'FOLLOWS'
end
redis.call('DEL', KEYS[1])  -- then the SET goes through even when Redis is full, and the keeper can make room
redis.call('SET', KEYS[1], keeper .. ' ' .. until_ms)
return 'LEADS'
