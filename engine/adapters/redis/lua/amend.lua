-- amend: change what was said about a task that has not started: its options, its priority.
--
-- keys  tasks, life, line, flows of the old priority, line, flows of the new one, idle
-- args  now_ms, id, life line as seen, is it stored (1 | 0), record as seen, new record, new priority, fair_key,
--       base of the channels, queue
-- gives OK        it has been; with another priority, one in a line is the last of its flow in the new one
--       MOVED_ON  it is not any more as it was seen
--       ILLEGAL   it runs or has ended
local tasks, life, line, flows, new_line, new_flows, idle = unpack(KEYS)
local now_ms, id, seen, is_stored, record, new_record, new_priority, fair_key, base, queue = unpack(ARGV)

if not is_as_seen(tasks, id, redis.call('HGET', life, id), seen, is_stored) then return 'MOVED_ON' end
if redis.call('HGET', tasks, id) ~= record then return 'MOVED_ON' end
local status, run, attempts, crashes, priority = parse_life(seen)
if status ~= 'QUEUED' and status ~= 'PENDING' and status ~= 'RETRYING' then return 'ILLEGAL' end
------------------------------------------------------------------- write
redis.call('HSET', tasks, id, new_record)
if priority == new_priority then return 'OK' end
-- One that is due later gets its place when it is promoted: 0 stands for none yet.
local entry = { id = id, fair_key = fair_key, place = 0 }
if status == 'QUEUED' then
  leave_line(tasks, line, flows, id, fair_key)
  queue_up(base, queue, new_line, new_flows, { entry }, now_ms)
  if is_urgent_line(new_line) then ring_bells(idle, base, queue, 1, true) end
end
redis.call('HSET', life, id, format_life(status, run, attempts, crashes, new_priority, entry.place, now_ms, '-'))
return 'OK'
