-- A lock for one leader among several: a string `name until_ms`.

-- The name of the leader, if there is one. An end that is further away than any caller could have asked for was dated
-- by a clock that has been set back since.
local function leader_of(lock)
  local leader, end_text = string.match(redis.call('GET', lock) or '', '^(%S+) (%d+)$')
  local until_ms, now_ms, end_ms = tonumber(ARGV.until_ms), tonumber(ARGV.now_ms), tonumber(end_text)
  local stands_down = until_ms <= now_ms
  if leader and (stands_down or (end_ms >= now_ms and end_ms <= 2 * until_ms - now_ms)) then return leader end
end

-- Whether a caller may take the lock, or give it up with a moment that is over.
local function may_take_lead(lock, name)
  local leader, stands_down = leader_of(lock), tonumber(ARGV.until_ms) <= tonumber(ARGV.now_ms)
  return not (leader or stands_down) or leader == name
end

-- Below the write line: lead until then, or stand down with a moment that is over. Return whether it leads. The DEL
-- lets the SET through even if Redis is full, so that the leader can make room.
local function take_lead(lock, name)
  redis.call('DEL', lock)
  if tonumber(ARGV.until_ms) <= tonumber(ARGV.now_ms) then return false end
  redis.call('SET', lock, name .. ' ' .. ARGV.until_ms)
  return true
end
