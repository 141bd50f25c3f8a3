-- withdraw: end tasks that no run holds: cancelled by somebody, or expired.
--
-- keys  tasks, life, outcomes, progress, due, expiring, ended of the new status, events, counters, waiters,
--       then for each line: line, flows
-- args  base of the channels, now_ms, move (cancel | expire), remove_ms,
--       for each task: id, life line as seen, is it stored (1 | 0), run that its outcome counts for,
--                      number of its line, fair_key, outcome
-- gives one word per task
--       OK        it has ended
--       MOVED_ON  it is not any more as it was seen
--       ILLEGAL   its status does not allow it
local tasks, life, outcomes, progress, due, expiring, ended, events, counters, waiters = unpack(KEYS, 1, 10)
local base, now_ms, move, remove_ms = unpack(ARGV, 1, 4)

local ids, words, going = {}, {}, {}
for i = 5, #ARGV, 7 do ids[#ids + 1] = ARGV[i] end
if #ids == 0 then return words end
local lines = read_many('HMGET', life, ids)
for n, id in ipairs(ids) do
  local i = 5 + 7 * (n - 1)
  local status, _, attempts, crashes, priority, place = parse_life(ARGV[i + 1])
  local to = MOVES[(status or '') .. ':' .. move]
  if not is_as_seen(tasks, id, lines[n], ARGV[i + 1], ARGV[i + 2]) then
    words[n] = 'MOVED_ON'
  elseif not to or not FINAL[to] then
    words[n] = 'ILLEGAL'
  else
    words[n] = 'OK'
    going[#going + 1] = { i = i, id = id, was = status, to = to, run = ARGV[i + 3],
      line = format_life(to, ARGV[i + 3], attempts, crashes, priority, place, now_ms, '-') }
  end
end
if #going == 0 then return words end
------------------------------------------------------------------- write
even_when_full(life)
local gone, lives, ends, told, rows = {}, {}, {}, {}, {}
for n, task in ipairs(going) do
  local i = task.i
  gone[n] = task.id
  lives[2 * n - 1], lives[2 * n] = task.id, task.line
  ends[2 * n - 1], ends[2 * n] = remove_ms, task.id
  told[2 * n - 1], told[2 * n] = task.id .. ':' .. task.run, ARGV[i + 6]
  rows[n] = task.id .. ' ' .. task.to .. ' ' .. task.run
  if task.was == 'QUEUED' then
    local at = 9 + 2 * tonumber(ARGV[i + 4])
    leave_line(tasks, KEYS[at], KEYS[at + 1], task.id, ARGV[i + 5])
  end
end
call_many('ZREM', due, gone)
call_many('ZREM', expiring, gone)
call_many('HDEL', progress, gone)
call_many('HSET', life, lives)
call_many('HSET', outcomes, told)
call_many('ZADD', ended, ends)
count_up(counters, going[1].to, #going)
add_events(events, rows)
tell_waiters(waiters, base, gone)
return words
