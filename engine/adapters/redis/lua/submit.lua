-- submit: take in tasks that may run at once and ask for nothing more. All or none.
--
-- A task that comes alone, while a supervisor sleeps that knows its type and has a worker with nothing to do, is handed
-- over: it is claimed for that supervisor here and goes with the bell, which spares it two journeys. Nothing that waits
-- is overtaken, since a supervisor sleeps only when all that it serves is empty. Should the message be lost, its next
-- step shows that Redis has it hold more than it knows of, and what it does not know goes back into the line.
--
-- keys  tasks, queues, idle, events, counters, life, then for each line: line, flows
--       and, since only this script knows who sleeps, the held of the one that takes the task
-- args  base of the keys and channels, row for the events, now_ms, number of lines,
--       for each line: queue, priority, number of its tasks,
--       for each task, line by line: id, record
-- gives OK       they are queued
--       ALREADY  this very call was made before; nothing is written
--       EXISTS   another task has one of the ids; nothing is written
local tasks, queues, idle, events, counters, life = unpack(KEYS, 1, 6)
local base, row, now_ms, line_count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local first = 5 + 3 * line_count
local HANDED_BYTES_MAX = 65536  -- Redis drops a subscriber to whom it owes too much
local SILENT_MS_MAX = 3500  -- a supervisor that sleeps says so every three seconds; one that does not may hang

local ids = part(ARGV, first, 2)
if #ids > 1 then  -- one alone is asked for as it is written
  local earlier, same = read_many('HMGET', tasks, ids), 0
  for n, record in ipairs(earlier) do
    if record then
      if record ~= ARGV[first + 2 * n - 1] then return 'EXISTS' end
      same = same + 1
    end
  end
  if same == #ids then return 'ALREADY' end
  if same > 0 then return 'EXISTS' end
end

local names, kind = {}, nil
for line = 1, line_count do names[line] = ARGV[2 + 3 * line] end
local states, sleepers = read_many('HMGET', queues, names), redis.call('HGETALL', idle)
if #ids == 1 and #sleepers > 0 then kind = type_of(ARGV[first + 1]) end

-- The sleeping supervisor with the most idle workers, and what is noted of it when one of them has this task.
local function find_taker(queue)
  local name, most, noted = nil, 0, nil
  for i = 1, #sleepers, 2 do
    local serves, idle_workers, said_ms = parse_sleeper(sleepers[i + 1])
    if is_served(queue, serves) and idle_workers > most and now_ms - said_ms < SILENT_MS_MAX
        and knows(base, sleepers[i], kind) then
      name, most, noted = sleepers[i], idle_workers, sleeper(serves, idle_workers - 1, said_ms)
    end
  end
  return name, noted
end

local function hand_over(id, record)
  local queue = names[1]
  if #record > HANDED_BYTES_MAX or states[1] == 'paused' or not kind then return false end
  local supervisor, noted = find_taker(queue)
  if not supervisor then return false end
  if redis.call('PUBLISH', base .. 'bell:' .. supervisor, '=' .. id .. queue .. ' ' .. record) == 0 then return false end
  local place = last_place(KEYS[8], '') + 1
  redis.call('HSET', KEYS[8], 'k:', place, 'v', place)
  redis.call('HSET', life, id, format_life('RUNNING', 1, 0, 0, ARGV[6], place, now_ms, supervisor))
  redis.call('SADD', base .. 'held:' .. supervisor, id)
  redis.call('HSET', idle, supervisor, noted)
  count_up(counters, 'runs', 1)
  add_events(events, { row, id .. ' RUNNING 1' })
  return true
end
------------------------------------------------------------------- write
if #ids > 1 then
  call_many('HSET', tasks, ARGV, first)
elseif redis.call('HSETNX', tasks, ids[1], ARGV[first + 1]) == 0 then
  return redis.call('HGET', tasks, ids[1]) == ARGV[first + 1] and 'ALREADY' or 'EXISTS'
end
count_up(counters, 'submitted', #ids)
for line = 1, line_count do
  if not states[line] then redis.call('HSET', queues, names[line], 'open') end
end
if #ids == 1 and hand_over(ids[1], ARGV[first + 1]) then return 'OK' end
local done = 0
for line = 1, line_count do
  local count = tonumber(ARGV[4 + 3 * line])
  local before = reserve_places(KEYS[6 + 2 * line], '', count)
  local placed = {}
  for n = 1, count do
    placed[2 * n - 1] = before + n
    placed[2 * n] = ids[done + n]
  end
  call_many('ZADD', KEYS[5 + 2 * line], placed)
  open_line(base, names[line], PRIORITIES[tonumber(ARGV[3 + 3 * line])], now_ms)
  done = done + count
end
add_events(events, { row })
for line = 1, line_count do
  ring_bells(idle, base, names[line], tonumber(ARGV[4 + 3 * line]), ARGV[3 + 3 * line] == '3', sleepers, kind)
end
return 'OK'
