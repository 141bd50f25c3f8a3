-- recover: bring what Redis believes of a supervisor's runs in line with what it knows itself, after an answer was lost
-- or Redis was away. What it does not know of goes back to its place; nobody pays.
--
-- keys  as for step: 1 tasks  2 life  3 outcomes  4 held of the supervisor  5 supervisors  6 idle  7 queues  8 turns
--       9 due  10 expiring  11 waiters  12 events  13 counters  14 orders  15 progress  16 to 19 ended  20 reports,
--       then for each queue: line URGENT, HIGH, NORMAL, LOW, flows URGENT, HIGH, NORMAL, LOW; the last is recovers
-- args  supervisor, now_ms, base of the channels, number of this call, number of queues, then their names,
--       then each run that the supervisor knows: id, run
-- gives the ids it knows whose runs are not its own any more. A run of a queue that is not among the keys stays held.
--       A call that comes after a later one of the same supervisor, from a connection that was given up, is not heeded:
--       it knows nothing of what was claimed since, and would give that to others while it runs (docs/protocol).
local tasks, life, held, idle, events, counters, progress = KEYS[1], KEYS[2], KEYS[4], KEYS[6], KEYS[12], KEYS[13], KEYS[15]
local recovers = KEYS[#KEYS]
local supervisor, now_ms, base, nth, queue_count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

if number(redis.call('HGET', recovers, supervisor)) >= nth then return {} end
local queue_at, known, foreign = {}, {}, {}
for q = 1, queue_count do queue_at[ARGV[5 + q]] = q end

-- The queue of a task, if it is one of ours; none where the record cannot be read.
local function queue_of(id)
  local record = redis.call('HGET', tasks, id)
  local can_be_read, head = pcall(cjson.decode, record and string.match(record, '^[^\n]*') or '')
  return can_be_read and type(head) == 'table' and type(head[2]) == 'string' and queue_at[head[2]]
end

for i = 6 + queue_count, #ARGV, 2 do
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
      back[#back + 1] = { id = id, run = run, place = place, queue = queue, priority = tonumber(priority),
        life = format_life('QUEUED', run, attempts, crashes, priority, place, now_ms, '-') }
    end
  end
end
------------------------------------------------------------------- write
local rows = {}
even_when_full(life)
redis.call('HSET', recovers, supervisor, nth)
for _, id in ipairs(strays) do redis.call('SREM', held, id) end
for _, task in ipairs(back) do
  redis.call('SREM', held, task.id)
  redis.call('HDEL', progress, task.id)
  redis.call('HSET', life, task.id, task.life)
  redis.call('ZADD', KEYS[20 + (task.queue - 1) * 8 + 4 - task.priority], task.place, task.id)
  rows[#rows + 1] = task.id .. ' QUEUED ' .. task.run
end
if #back > 0 then count_up(counters, 'released', #back) end
add_events(events, rows)
for _, task in ipairs(back) do ring_bells(idle, base, ARGV[5 + task.queue], 1, task.priority == 3) end
return foreign
