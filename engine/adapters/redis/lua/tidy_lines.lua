-- tidy_lines: give lines their turns that have tasks and none, and forget those that are empty.
--
-- keys  queues, idle, aside; and the turns and lines
-- args  base, now_ms, then for each line: queue, level, type or ''
-- gives how many had no turn
local queues, idle, aside = unpack(KEYS)
local base, now_ms = unpack(ARGV, 1, 2)
------------------------------------------------------------------- write
local mended = 0
for i = 3, #ARGV, 3 do
  local queue, level, kind = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local ending = kind ~= '' and ':' .. kind or ''
  local line, turns = base .. 'line:' .. queue .. ':' .. level .. ending, base .. 'turns:' .. level .. ending
  local size = redis.call('ZCARD', line)
  if size == 0 then
    redis.call('ZREM', turns, queue)
    if kind ~= '' and redis.call('EXISTS', base .. 'turns:LOW' .. ending, base .. 'turns:NORMAL' .. ending,
        base .. 'turns:HIGH' .. ending, base .. 'turns:URGENT' .. ending) == 0 then
      redis.call('SREM', aside, kind)
    end
  else
    redis.call('HSETNX', queues, queue, 'open')
    if kind ~= '' then redis.call('SADD', aside, kind) end
    local turn = redis.call('ZSCORE', turns, queue)
    if not turn or tonumber(turn) >= PARKED and redis.call('HGET', queues, queue) ~= 'paused' then
      redis.call('ZADD', turns, now_ms .. '000', queue)
      ring_bells(idle, base, queue, size, level == 'URGENT', nil, kind ~= '' and kind or nil)
      mended = mended + 1
    end
  end
end
return mended
