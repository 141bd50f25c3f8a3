-- recover: bring what Redis believes of a supervisor's runs in line with what it knows itself, after an answer was lost
-- or Redis was away. What it does not know of goes back to its place; nobody pays.
--
-- keys  tasks, life, held of the supervisor, idle, events, counters, progress, recovers
--       and, since only this script knows what it holds: the lines
-- args  supervisor, now_ms, base of the channels, number of this call, then each run that it knows: id, run
-- gives the ids it knows whose runs are not its own any more. A run whose record cannot be read stays held.
--       A life line that was deleted is written again by what the supervisor knows of its run.
--       A call that comes after a later one of the same supervisor, from a connection that was given up, is not heeded:
--       it knows nothing of what was claimed since, and would give that to others while it runs (docs/protocol).
local tasks, life, held, idle, events, counters, progress, recovers = unpack(KEYS)
local supervisor, now_ms, base, nth = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

if number(redis.call('HGET', recovers, supervisor)) >= nth then return {} end
local known, foreign = {}, {}

-- The queue of a task; none where the record cannot be read.
local function queue_of(id)
  local _, queue = head_of(redis.call('HGET', tasks, id) or '')
  return queue and is_queue_name(queue) and queue
end

-- The queue and priority of a task that it holds and whose life line was deleted; nothing for all others.
local function of_lost(id)
  if redis.call('SISMEMBER', held, id) == 0 then return end
  local kind, queue, priority = head_of(redis.call('HGET', tasks, id) or '')
  if kind and is_queue_name(queue) and not found_in_line(base, kind, queue, id) then return queue, priority end
end

local restored = {}
for i = 5, #ARGV, 2 do
  local id, run = ARGV[i], ARGV[i + 1]
  local line = redis.call('HGET', life, id)
  local status, at_run, attempts, crashes, priority, place, _, owner = parse_life(line or '')
  known[id] = true
  if not line then
    local _, lost_priority = of_lost(id)
    status, attempts, crashes, place = lost_priority and 'RUNNING', 0, 0, '0'
    priority, owner = lost_priority, supervisor
  end
  local is_ours = status == 'RUNNING' and owner == supervisor
  if is_ours and place == '0' and at_run ~= run then  -- the number was not known when the line was restored
    restored[#restored + 1] = id
    restored[#restored + 1] = format_life('RUNNING', run, attempts, crashes, priority, 0, now_ms, supervisor)
  elseif not is_ours or at_run ~= run then
    foreign[#foreign + 1] = id
  end
end
local back, strays = {}, {}
for _, id in ipairs(redis.call('SMEMBERS', held)) do
  local line = redis.call('HGET', life, id)
  local status, run, attempts, crashes, priority, place, _, owner = parse_life(line or '')
  local queue
  if not line then
    queue, priority = of_lost(id)
    status, run, attempts, crashes, place = queue and 'RUNNING', latest_run(base .. 'outcomes', id) + 1, 0, 0, 0
    owner = supervisor
  end
  if status ~= 'RUNNING' or owner ~= supervisor then
    strays[#strays + 1] = id
  elseif not known[id] then
    queue = queue or queue_of(id)
    if queue then
      back[#back + 1] = { id = id, run = run, place = place, queue = queue, level = PRIORITIES[tonumber(priority)],
        life = format_life('QUEUED', run, attempts, crashes, priority, place, now_ms, '-') }
    end
  end
end
------------------------------------------------------------------- write
local rows = {}
even_when_full(life)
redis.call('HSET', recovers, supervisor, nth)
call_many('HSET', life, restored)
call_many('SREM', held, strays)
for _, task in ipairs(back) do
  redis.call('SREM', held, task.id)
  redis.call('HDEL', progress, task.id)
  redis.call('HSET', life, task.id, task.life)
  redis.call('ZADD', base .. 'line:' .. task.queue .. ':' .. task.level, task.place, task.id)
  open_line(base, task.queue, task.level, now_ms)
  rows[#rows + 1] = task.id .. ' QUEUED ' .. task.run
end
if #back > 0 then count_up(counters, 'released', #back) end
add_events(events, rows)
for _, task in ipairs(back) do ring_bells(idle, base, task.queue, 1, task.level == 'URGENT') end
return foreign
