-- promote: queue tasks whose moment has come: delayed ones behind the others of their fair key, retried ones at their
-- old rank.
--
-- For each task: state as seen; number of its lane.
-- gives one word for each task
--       OK        it is queued
--       MOVED_ON  it is not as it was seen, or not due any more
--       ILLEGAL   its status does not allow it
-- include: commands
-- include: keys
-- include: state
-- include: ranks
-- include: lanes
-- include: wakeup
-- include: events
local ids, words, ready, entries = {}, {}, {}, {}
for n = 1, #ARGV.tasks do ids[n] = ARGV.tasks[n].id end
for n = 1, #ARGV.lanes do entries[n] = {} end
local states, moments = read_many('HMGET', KEYS.states, ids), read_many('ZMSCORE', KEYS.due, ids)
for n, id in ipairs(ids) do
  local seen = ARGV.tasks[n].state
  local status, run, attempts, crashes, priority, rank = parse_state(seen)
  if states[n] ~= seen or not moments[n] or tonumber(moments[n]) > tonumber(ARGV.now_ms) then
    words[n] = 'MOVED_ON'
  elseif not MOVES[(status or '') .. ':promote'] then
    words[n] = 'ILLEGAL'
  else
    words[n] = 'OK'
    local entry = { id = id, fair_key = ARGV.tasks[n].fair_key, rank = rank, run = run, attempts = attempts,
      crashes = crashes, priority = priority }
    ready[#ready + 1] = entry
    table.insert(entries[tonumber(ARGV.tasks[n].lane)], entry)
  end
end
if #ready == 0 then return words end
------------------------------------------------------------------- write
write_even_when_full(KEYS.states)
for n = 1, #ARGV.lanes do enter_lane(ARGV.lanes[n].queue, KEYS.lanes[n].lane, KEYS.lanes[n].cursors, entries[n]) end
local promoted, moves, rows = {}, {}, {}
for n, task in ipairs(ready) do
  promoted[n] = task.id
  moves[2 * n - 1] = task.id
  moves[2 * n] = format_state('QUEUED', task.run, task.attempts, task.crashes, task.priority, task.rank, ARGV.now_ms,
    '-')
  rows[n] = task.id .. ' QUEUED ' .. task.run
end
move_tasks(moves)
call_many('ZREM', KEYS.due, promoted)
add_events(rows)
for n = 1, #ARGV.lanes do wake_supervisors(ARGV.lanes[n].queue, #entries[n], is_urgent_lane(KEYS.lanes[n].lane)) end
return words
