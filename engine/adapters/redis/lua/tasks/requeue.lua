-- requeue: queue tasks again after their end, with all their attempts.
--
-- For each task: state as seen; is_stored (1 | 0); number of its lane.
-- gives one word for each task
--       OK        it is queued, behind the others of its fair key; its run number counts on
--       MOVED_ON  it is not as it was seen
--       ILLEGAL   its status does not allow it
-- include: commands
-- include: keys
-- include: state
-- include: ranks
-- include: lanes
-- include: wakeup
-- include: events
local ids, words, back, entries = {}, {}, {}, {}
for n = 1, #ARGV.tasks do ids[n] = ARGV.tasks[n].id end
for n = 1, #ARGV.lanes do entries[n] = {} end
local states = read_many('HMGET', KEYS.states, ids)
for n, id in ipairs(ids) do
  local seen = ARGV.tasks[n].state
  local status, run, _, _, priority = parse_state(seen)
  if not is_as_seen(id, states[n], seen, ARGV.tasks[n].is_stored) then
    words[n] = 'MOVED_ON'
  elseif not MOVES[(status or '') .. ':requeue'] then
    words[n] = 'ILLEGAL'
  else
    words[n] = 'OK'
    local entry = { id = id, fair_key = ARGV.tasks[n].fair_key, rank = 0, run = run, priority = priority }
    back[#back + 1] = entry
    table.insert(entries[tonumber(ARGV.tasks[n].lane)], entry)
  end
end
if #back == 0 then return words end
------------------------------------------------------------------- write
local requeued, moves, rows = {}, {}, {}
for n = 1, #ARGV.lanes do enter_lane(ARGV.lanes[n].queue, KEYS.lanes[n].lane, KEYS.lanes[n].cursors, entries[n]) end
for n, task in ipairs(back) do
  requeued[n] = task.id
  moves[2 * n - 1] = task.id
  moves[2 * n] = format_state('QUEUED', task.run, 0, 0, task.priority, task.rank, ARGV.now_ms, '-')
  rows[n] = task.id .. ' QUEUED ' .. task.run
end
move_tasks(moves)
call_many('HDEL', KEYS.rescues, requeued)
call_many('HDEL', KEYS.cancel_requests, requeued)
for _, ended in ipairs({ KEYS.ended_failed, KEYS.ended_cancelled, KEYS.ended_timeout }) do
  call_many('ZREM', ended, requeued)
end
count_up(KEYS.counters, 'revived', #back)
add_events(rows)
for n = 1, #ARGV.lanes do wake_supervisors(ARGV.lanes[n].queue, #entries[n], is_urgent_lane(KEYS.lanes[n].lane)) end
return words
