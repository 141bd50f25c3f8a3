-- submit: take in tasks that may run at once and ask for nothing more. All or none.
--
-- keys  tasks, queues, idle, events, counters, then for each line: line, flows
-- args  base of the channels, row for the events, number of lines,
--       for each line: queue, number of its tasks,
--       for each task, line by line: id, record
-- gives OK       they are queued
--       ALREADY  this very call was made before; nothing is written
--       EXISTS   another task has one of the ids; nothing is written
local tasks, queues, idle, events, counters = unpack(KEYS, 1, 5)
local base, row, line_count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local first = 4 + 2 * line_count

local ids = {}
for i = first, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local earlier, same = redis.call('HMGET', tasks, unpack(ids)), 0
for n, record in ipairs(earlier) do
  if record then
    if record ~= ARGV[first + 2 * n - 1] then return 'EXISTS' end
    same = same + 1
  end
end
if same == #ids then return 'ALREADY' end
if same > 0 then return 'EXISTS' end
------------------------------------------------------------------- write
redis.call('HSET', tasks, unpack(ARGV, first))
local done = 0
for line = 1, line_count do
  local queue, count = ARGV[2 + 2 * line], tonumber(ARGV[3 + 2 * line])
  local before = reserve_places(KEYS[5 + 2 * line], '', count)
  local placed = {}
  for n = 1, count do
    placed[2 * n - 1] = before + n
    placed[2 * n] = ids[done + n]
  end
  redis.call('ZADD', KEYS[4 + 2 * line], unpack(placed))
  redis.call('HSETNX', queues, queue, 'open')
  done = done + count
end
count_up(counters, 'submitted', #ids)
add_events(events, { row })
for line = 1, line_count do ring_bells(idle, base, ARGV[2 + 2 * line], tonumber(ARGV[3 + 2 * line])) end
return 'OK'
