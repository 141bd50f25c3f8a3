-- rescue: take runs away from a supervisor whose lease is over; forget the supervisor when it has none left. Nobody
-- knows how the runs ended, so no attempt is charged.
--
-- For each task: state as seen; move: release | fail | cancel; number of its lane; outcome.
-- gives {ALIVE}        its lease holds; nothing is written
--       {OK, word, …}  one word for each task:
--           OK         released: queued at its old rank; else ended
--           MOVED_ON   it is not as it was seen
--           ILLEGAL    it does not run under this supervisor, or the move is none for it
-- include: commands
-- include: keys
-- include: state
-- include: lanes
-- include: wakeup
-- include: events
-- include: after_end
-- include: forget_supervisor
local supervisor, ended = ARGV.supervisor, { FAILED = KEYS.ended_failed, CANCELLED = KEYS.ended_cancelled }
local lease_end_ms = tonumber(redis.call('ZSCORE', KEYS.supervisors, supervisor) or 0)
if lease_end_ms >= tonumber(ARGV.now_ms) then return { 'ALIVE' } end
local answer, taken = { 'OK' }, {}
for n = 1, #ARGV.tasks do
  local id, seen = ARGV.tasks[n].id, ARGV.tasks[n].state
  local status, run, attempts, crashes, priority, rank, _, owner = parse_state(seen)
  local to = MOVES[(status or '') .. ':' .. ARGV.tasks[n].move]
  if redis.call('HGET', KEYS.states, id) ~= seen then
    answer[#answer + 1] = 'MOVED_ON'
  elseif status ~= 'RUNNING' or owner ~= supervisor or not (to == 'QUEUED' or ended[to or '']) then
    answer[#answer + 1] = 'ILLEGAL'
  else
    answer[#answer + 1] = 'OK'
    taken[#taken + 1] = { id = id, to = to, run = run, rank = rank, lane = tonumber(ARGV.tasks[n].lane),
      outcome = ARGV.tasks[n].outcome,
      state = format_state(to, run, attempts, crashes, priority, rank, ARGV.now_ms, '-') }
  end
end
------------------------------------------------------------------- write
write_even_when_full(KEYS.states)
local rows, over, released = {}, {}, {}
for _, task in ipairs(taken) do
  redis.call('SREM', KEYS.running, task.id)
  redis.call('HDEL', KEYS.progress, task.id)
  move_task(task.id, task.state)
  redis.call('HSET', KEYS.outcomes, task.id .. ':' .. task.run, task.outcome)
  rows[#rows + 1] = task.id .. ' ' .. task.to .. ' ' .. task.run
  if task.to == 'QUEUED' then
    redis.call('ZADD', KEYS.lanes[task.lane].lane, task.rank, task.id)
    count_up(KEYS.rescues, task.id, 1)
    released[task.lane] = (released[task.lane] or 0) + 1
  else
    redis.call('ZADD', ended[task.to], ARGV.remove_ms, task.id)
    redis.call('HDEL', KEYS.rescues, task.id)
    count_up(KEYS.counters, task.to, 1)
    over[#over + 1] = task.id
  end
end
if #taken > 0 then count_up(KEYS.counters, 'rescued', #taken) end
if redis.call('SCARD', KEYS.running) == 0 then forget_supervisor() end
add_events(rows)
after_end({ ids = over })
for n, count in pairs(released) do
  open_lane(ARGV.lanes[n].queue, level_of(KEYS.lanes[n].lane))
  wake_supervisors(ARGV.lanes[n].queue, count, is_urgent_lane(KEYS.lanes[n].lane))
end
return answer
