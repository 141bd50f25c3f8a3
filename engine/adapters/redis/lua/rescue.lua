-- rescue: take the runs of a supervisor whose lease has lapsed away from it; bury it when it has none left.
-- Their fate is unknown, and nobody pays for it.
--
-- keys  supervisors, held of the supervisor, life, outcomes, progress, rescues, idle, reports, orders of the
--       supervisor, events, counters, waiters, ended FAILED, ended CANCELLED, recovers, types of the supervisor, then
--       the lines
-- args  base of the channels, now_ms, supervisor, remove_ms, number of lines,
--       for each line: queue
--       for each task: id, life line as seen, move (release | fail | cancel), number of its line, outcome
-- gives {ALIVE}        its lease holds; nothing is written
--       {OK, word, …}  one per task:
--           OK         released: queued at its old place; else ended
--           MOVED_ON   it is not any more as it was seen
--           ILLEGAL    it does not run under this supervisor, or the move is none for it
local supervisors, held, life, outcomes, progress, rescues, idle, reports, orders, events, counters, waiters =
  unpack(KEYS, 1, 12)
local ended, recovers = { FAILED = KEYS[13], CANCELLED = KEYS[14] }, KEYS[15]
local base, now_ms, supervisor, remove_ms, line_count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

local lease_end_ms = tonumber(redis.call('ZSCORE', supervisors, supervisor) or 0)
if lease_end_ms >= tonumber(now_ms) then return { 'ALIVE' } end
local answer, saved = { 'OK' }, {}
for i = 6 + line_count, #ARGV, 5 do
  local id, seen, move = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local status, run, attempts, crashes, priority, place, _, owner = parse_life(seen)
  local to = MOVES[(status or '') .. ':' .. move]
  if redis.call('HGET', life, id) ~= seen then
    answer[#answer + 1] = 'MOVED_ON'
  elseif status ~= 'RUNNING' or owner ~= supervisor or not (to == 'QUEUED' or ended[to or '']) then
    answer[#answer + 1] = 'ILLEGAL'
  else
    answer[#answer + 1] = 'OK'
    saved[#saved + 1] = { id = id, to = to, run = run, place = place, line = tonumber(ARGV[i + 3]),
      outcome = ARGV[i + 4], life = format_life(to, run, attempts, crashes, priority, place, now_ms, '-') }
  end
end
------------------------------------------------------------------- write
even_when_full(life)
local rows, told, released = {}, {}, {}
for _, task in ipairs(saved) do
  redis.call('SREM', held, task.id)
  redis.call('HDEL', progress, task.id)
  redis.call('HSET', life, task.id, task.life)
  redis.call('HSET', outcomes, task.id .. ':' .. task.run, task.outcome)
  rows[#rows + 1] = task.id .. ' ' .. task.to .. ' ' .. task.run
  if task.to == 'QUEUED' then
    redis.call('ZADD', KEYS[16 + task.line], task.place, task.id)
    count_up(rescues, task.id, 1)
    released[task.line] = (released[task.line] or 0) + 1
  else
    redis.call('ZADD', ended[task.to], remove_ms, task.id)
    redis.call('HDEL', rescues, task.id)
    count_up(counters, task.to, 1)
    told[#told + 1] = task.id
  end
end
if #saved > 0 then count_up(counters, 'rescued', #saved) end
if redis.call('SCARD', held) == 0 then
  redis.call('ZREM', supervisors, supervisor)
  redis.call('HDEL', reports, supervisor)
  redis.call('HDEL', idle, supervisor)
  redis.call('DEL', orders, KEYS[16])
  redis.call('HDEL', recovers, supervisor)
end
add_events(events, rows)
tell_waiters(waiters, base, told)
for line, count in pairs(released) do
  open_line(base, ARGV[5 + line], string.match(KEYS[16 + line], '%u+$'), now_ms)
  ring_bells(idle, base, ARGV[5 + line], count, is_urgent_line(KEYS[16 + line]))
end
return answer
