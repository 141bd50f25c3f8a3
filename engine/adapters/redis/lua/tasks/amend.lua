-- amend: change the options and the priority of a task that has not started.
--
-- state, record: as seen; is_stored: 1 | 0. lane, cursors: those of the old priority
-- gives OK        it is changed; if its priority is another and it is queued, it is the last of its fair key there
--       MOVED_ON  it is not as it was seen
--       ILLEGAL   it runs or has ended
-- include: commands
-- include: keys
-- include: state
-- include: records
-- include: ranks
-- include: lanes
-- include: wakeup
local id = ARGV.id
if not is_as_seen(id, redis.call('HGET', KEYS.states, id), ARGV.state, ARGV.is_stored) then return 'MOVED_ON' end
if redis.call('HGET', KEYS.tasks, id) ~= ARGV.record then return 'MOVED_ON' end
local status, run, attempts, crashes, priority = parse_state(ARGV.state)
if status ~= 'QUEUED' and status ~= 'PENDING' and status ~= 'RETRYING' then return 'ILLEGAL' end
------------------------------------------------------------------- write
-- Not without need: a Redis that is full refuses it, and lets a queued task change its lane, which frees memory first.
if ARGV.new_record ~= ARGV.record then redis.call('HSET', KEYS.tasks, id, ARGV.new_record) end
if priority == ARGV.new_priority then return 'OK' end
-- A task that is due later gets its rank when it is promoted: 0 stands for none yet.
local entry = { id = id, fair_key = ARGV.fair_key, rank = 0 }
if status == 'QUEUED' then
  leave_lane(KEYS.lane, KEYS.cursors, id, ARGV.fair_key)
  enter_lane(ARGV.queue, KEYS.new_lane, KEYS.new_cursors, { entry })
  if is_urgent_lane(KEYS.new_lane) then wake_supervisors(ARGV.queue, 1, true) end
end
move_task(id, format_state(status, run, attempts, crashes, ARGV.new_priority, entry.rank, ARGV.now_ms, '-'))
return 'OK'
