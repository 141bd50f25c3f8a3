-- cancel_queued: end tasks that are not running: cancelled by a client, or expired.
--
-- move: cancel | expire. ended: the key of the tasks with the new status. For each task: state as seen; is_stored
-- (1 | 0); run that its outcome counts for; number of its lane; outcome.
-- gives one word for each task
--       OK        it has ended
--       MOVED_ON  it is not as it was seen
--       ILLEGAL   its status does not allow it
-- include: commands
-- include: state
-- include: records
-- include: lanes
-- include: events
-- include: keys
-- include: after_end
local ids, words, ending = {}, {}, {}
for n = 1, #ARGV.tasks do ids[n] = ARGV.tasks[n].id end
if #ids == 0 then return words end
local states = read_many('HMGET', KEYS.states, ids)
for n, id in ipairs(ids) do
  local status, _, attempts, crashes, priority, rank = parse_state(ARGV.tasks[n].state)
  local to = MOVES[(status or '') .. ':' .. ARGV.move]
  if not is_as_seen(id, states[n], ARGV.tasks[n].state, ARGV.tasks[n].is_stored) then
    words[n] = 'MOVED_ON'
  elseif not to or not FINAL[to] then
    words[n] = 'ILLEGAL'
  else
    words[n] = 'OK'
    local run = ARGV.tasks[n].run
    ending[#ending + 1] = { n = n, id = id, was = status, to = to, run = run,
      state = format_state(to, run, attempts, crashes, priority, rank, ARGV.now_ms, '-') }
  end
end
if #ending == 0 then return words end
------------------------------------------------------------------- write
write_even_when_full(KEYS.states)
local over, moves, removals, outcomes, rows = {}, {}, {}, {}, {}
for i, task in ipairs(ending) do
  local n = task.n
  over[i] = task.id
  moves[2 * i - 1], moves[2 * i] = task.id, task.state
  removals[2 * i - 1], removals[2 * i] = ARGV.remove_ms, task.id
  outcomes[2 * i - 1], outcomes[2 * i] = task.id .. ':' .. task.run, ARGV.tasks[n].outcome
  rows[i] = task.id .. ' ' .. task.to .. ' ' .. task.run
  if task.was == 'QUEUED' then
    local lane = tonumber(ARGV.tasks[n].lane)
    leave_lane(KEYS.lanes[lane].lane, KEYS.lanes[lane].cursors, task.id, ARGV.tasks[n].fair_key)
  end
end
call_many('ZREM', KEYS.due, over)
call_many('ZREM', KEYS.expiring, over)
call_many('HDEL', KEYS.progress, over)
move_tasks(moves)
call_many('HSET', KEYS.outcomes, outcomes)
call_many('ZADD', KEYS.ended, removals)
count_up(KEYS.counters, ending[1].to, #ending)
add_events(rows)
after_end({ ids = over })
return words
