-- recover: bring what Redis believes of a supervisor's runs in line with what it knows itself, after an answer was lost
-- or Redis was away. What it does not know of goes back to its place; nobody pays.
--
-- keys  tasks, life, held of the supervisor, idle, events, counters, progress, recovers
--       and, since only this script knows what it holds: the lines
-- args  supervisor, now_ms, base of the channels, number of this call, then each run that it knows: id, run
-- gives the ids it knows whose runs are not its own any more. A run whose record cannot be read stays held.
--       A call that comes after a later one of the same supervisor, from a connection that was given up, is not heeded:
--       it knows nothing of what was claimed since, and would give that to others while it runs (docs/protocol).
local tasks, life, held, idle, events, counters, progress, recovers = unpack(KEYS)
local supervisor, now_ms, base, nth = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

if number(redis.call('HGET', recovers, supervisor)) >= nth then return {} end
local known, foreign = {}, {}

-- The queue of a task; none where the record cannot be read.
local function queue_of(id)
  local record = redis.call('HGET', tasks, id)
  local can_be_read, head = pcall(cjson.decode, record and string.match(record, '^[^\n]*') or '')
  local queue = can_be_read and type(head) == 'table' and head[2]
  return type(queue) == 'string' and is_queue_name(queue) and queue
end

for i = 5, #ARGV, 2 do
  local id, run = ARGV[i], ARGV[i + 1]
  local status, at_run, _, _, _, _, _, owner = parse_life(redis.call('HGET', life, id) or '')
  known[id] = true
  if status ~= 'RUNNING' or at_run ~= run or owner ~= supervisor then foreign[#foreign + 1] = id end
end
local back, strays = {}, {}
for _, id in ipairs(redis.call('SMEMBERS', held)) do
  local status, run, attempts, crashes, priority, place, _, owner = parse_life(redis.call('HGET', life, id) or '')
  if status ~= 'RUNNING' or owner ~= supervisor then
    strays[#strays + 1] = id
  elseif not known[id] then
    local queue = queue_of(id)
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
