-- sync_held_runs: after an answer was lost or Redis was away, make Redis and a supervisor agree on the runs it holds.
-- A run that the supervisor does not know of is queued again at its rank; no attempt is charged.
--
-- A call that comes after a later one of the same supervisor, from a connection that was given up, changes nothing: it
-- does not know what was claimed since, and would give those tasks to others while they run (docs/protocol).
-- A state that was deleted is written again by what the supervisor knows of its run. A run whose record cannot be read
-- stays held. Undeclared keys: the lanes, since only this script knows what it holds.
--
-- number: counts the calls of this supervisor. runs: those it knows of
-- gives the ids it knows of whose runs are not its own any more
-- include: commands
-- include: keys
-- include: state
-- include: records
-- include: lanes
-- include: outcomes
-- include: wakeup
-- include: events
local supervisor, number_of_call = ARGV.supervisor, tonumber(ARGV.number)
if number(redis.call('HGET', KEYS.syncs, supervisor)) >= number_of_call then return {} end
local known, foreign = {}, {}

-- The queue of a task; nil where the record cannot be read.
local function queue_of(id)
  local _, queue = head_of(redis.call('HGET', KEYS.tasks, id) or '')
  return queue and is_queue_name(queue) and queue
end

-- The queue and priority of a task that it holds and whose state was deleted; nothing for all others.
local function of_lost_state(id)
  if redis.call('SISMEMBER', KEYS.running, id) == 0 then return end
  local task_type, queue, priority = head_of(redis.call('HGET', KEYS.tasks, id) or '')
  if task_type and is_queue_name(queue) and not find_in_lane(task_type, queue, id) then return queue, priority end
end

local restored = {}
for n = 1, #ARGV.runs do
  local id, run = ARGV.runs[n].id, ARGV.runs[n].run
  local state = redis.call('HGET', KEYS.states, id)
  local status, at_run, attempts, crashes, priority, rank, _, owner = parse_state(state or '')
  known[id] = true
  if not state then
    local _, lost_priority = of_lost_state(id)
    status, attempts, crashes, rank = lost_priority and 'RUNNING', 0, 0, '0'
    priority, owner = lost_priority, supervisor
  end
  local is_ours = status == 'RUNNING' and owner == supervisor
  if is_ours and rank == '0' and at_run ~= run then  -- the number was not known when the state was restored
    restored[#restored + 1] = id
    restored[#restored + 1] = format_state('RUNNING', run, attempts, crashes, priority, 0, ARGV.now_ms, supervisor)
  elseif not is_ours or at_run ~= run then
    foreign[#foreign + 1] = id
  end
end
local back, strays = {}, {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS.running)) do
  local state = redis.call('HGET', KEYS.states, id)
  local status, run, attempts, crashes, priority, rank, _, owner = parse_state(state or '')
  local queue
  if not state then
    queue, priority = of_lost_state(id)
    status, run, attempts, crashes, rank = queue and 'RUNNING', latest_run(id) + 1, 0, 0, 0
    owner = supervisor
  end
  if status ~= 'RUNNING' or owner ~= supervisor then
    strays[#strays + 1] = id
  elseif not known[id] then
    queue = queue or queue_of(id)
    if queue then
      back[#back + 1] = { id = id, run = run, rank = rank, queue = queue, level = PRIORITIES[tonumber(priority)],
        state = format_state('QUEUED', run, attempts, crashes, priority, rank, ARGV.now_ms, '-') }
    end
  end
end
------------------------------------------------------------------- write
local rows = {}
write_even_when_full(KEYS.states)
redis.call('HSET', KEYS.syncs, supervisor, number_of_call)
move_tasks(restored)
call_many('SREM', KEYS.running, strays)
for _, task in ipairs(back) do
  redis.call('SREM', KEYS.running, task.id)
  redis.call('HDEL', KEYS.progress, task.id)
  move_task(task.id, task.state)
  redis.call('ZADD', lane_key(task.queue, task.level), task.rank, task.id)
  open_lane(task.queue, task.level)
  rows[#rows + 1] = task.id .. ' QUEUED ' .. task.run
end
if #back > 0 then count_up(KEYS.counters, 'released', #back) end
add_events(rows)
for _, task in ipairs(back) do wake_supervisors(task.queue, 1, task.level == 'URGENT') end
return foreign
