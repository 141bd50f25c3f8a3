-- submit: add tasks that may run at once and have no further options: all of them or none.
--
-- A single task may be handed over: if an idle supervisor knows its type and has a worker with nothing to do, the task
-- is claimed for that supervisor here and sent with the wakeup, which saves two round trips. It overtakes no other
-- task, since a supervisor is idle only when all lanes that it serves are empty. If the message is lost, the next step
-- of the supervisor shows that Redis has it hold more runs than it knows of, and the task goes back into its lane.
-- Undeclared key: the running set of the supervisor that takes the task.
--
-- event_row: the row of all these tasks for the stream of events
-- gives OK       they are queued
--       ALREADY  this very call was made before; nothing is written
--       EXISTS   another task has one of the ids; nothing is written
-- include: commands
-- include: keys
-- include: state
-- include: records
-- include: ranks
-- include: lanes
-- include: wakeup
-- include: events
local HANDED_BYTES_MAX = 65536  -- Redis drops a subscriber whose unsent messages grow too large
local SILENT_MS_MAX = 3500  -- an idle supervisor says so every three seconds; one that does not may hang

local ids, lane_count = {}, #ARGV.lanes
for n = 1, #ARGV.tasks do ids[n] = ARGV.tasks[n].id end
if #ids > 1 then  -- a single task is checked by HSETNX below
  local same = 0
  for n, record in ipairs(read_many('HMGET', KEYS.tasks, ids)) do
    if record then
      if record ~= ARGV.tasks[n].record then return 'EXISTS' end
      same = same + 1
    end
  end
  if same == #ids then return 'ALREADY' end
  if same > 0 then return 'EXISTS' end
end

local names, task_type = {}, nil
for n = 1, lane_count do names[n] = ARGV.lanes[n].queue end
local queue_states, supervisors = read_many('HMGET', KEYS.queues, names), redis.call('HGETALL', KEYS.idle_supervisors)
if #ids == 1 and #supervisors > 0 then task_type = type_of(ARGV.tasks[1].record) end

-- The idle supervisor with the most idle workers, and its note when one of them has this task.
local function find_taker(queue)
  local name, most, noted = nil, 0, nil
  for i = 1, #supervisors, 2 do
    local serves, idle_workers, said_ms = parse_idle(supervisors[i + 1])
    if is_served(queue, serves) and idle_workers > most and ARGV.now_ms - said_ms < SILENT_MS_MAX
        and knows_type(supervisors[i], task_type) then
      name, most, noted = supervisors[i], idle_workers, format_idle(serves, idle_workers - 1, said_ms)
    end
  end
  return name, noted
end

local function hand_over(id, record)
  local queue = names[1]
  if #record > HANDED_BYTES_MAX or queue_states[1] == 'paused' or not task_type then return false end
  local supervisor, noted = find_taker(queue)
  if not supervisor then return false end
  if redis.call('PUBLISH', wakeup_channel(supervisor), '=' .. id .. queue .. ' ' .. record) == 0 then return false end
  local rank = last_rank(KEYS.lanes[1].cursors, '') + 1
  redis.call('HSET', KEYS.lanes[1].cursors, 'k:', rank, 'v', rank)
  move_task(id, format_state('RUNNING', 1, 0, 0, ARGV.lanes[1].priority, rank, ARGV.now_ms, supervisor))
  redis.call('SADD', running_key(supervisor), id)
  redis.call('HSET', KEYS.idle_supervisors, supervisor, noted)
  count_up(KEYS.counters, 'runs', 1)
  add_events({ ARGV.event_row, id .. ' RUNNING 1' })
  return true
end
------------------------------------------------------------------- write
if #ids > 1 then
  call_many('HSET', KEYS.tasks, ARGV, FIRST.tasks)
elseif redis.call('HSETNX', KEYS.tasks, ids[1], ARGV.tasks[1].record) == 0 then
  return redis.call('HGET', KEYS.tasks, ids[1]) == ARGV.tasks[1].record and 'ALREADY' or 'EXISTS'
end
count_up(KEYS.counters, 'submitted', #ids)
for n = 1, lane_count do
  if not queue_states[n] then redis.call('HSET', KEYS.queues, names[n], 'open') end
end
if #ids == 1 and hand_over(ids[1], ARGV.tasks[1].record) then return 'OK' end
local done = 0
for n = 1, lane_count do
  local count = tonumber(ARGV.lanes[n].task_count)
  local before, ranked = reserve_ranks(KEYS.lanes[n].cursors, '', count), {}
  for i = 1, count do ranked[2 * i - 1], ranked[2 * i] = before + i, ids[done + i] end
  call_many('ZADD', KEYS.lanes[n].lane, ranked)
  open_lane(names[n], PRIORITIES[tonumber(ARGV.lanes[n].priority)])
  done = done + count
end
add_events({ ARGV.event_row })
for n = 1, lane_count do
  wake_supervisors(names[n], tonumber(ARGV.lanes[n].task_count), ARGV.lanes[n].priority == '3', supervisors, task_type)
end
return 'OK'
