-- Where queued tasks are: a *lane* for each queue and priority, in the order of their ranks. If a supervisor meets a
-- task whose type it does not know, it sets the task aside: into the lane of that queue, priority and type, at the
-- same rank. Only supervisors that know the type look at that lane.
--   lane of a queue at a level, and of one type beside it: id -> rank
--   round robin of a level, and of one type beside it: queue -> when the lane was served last, µs
--   types_aside: the types that have lanes of their own
-- A lane that may have tasks is in the round robin of its level. Lanes of paused queues stand at its end, at PARKED.
-- A script that finds a lane empty takes it out.

local PARKED = 9e17  -- later than any moment in µs, even of a clock that is millennia ahead

local function level_of(lane)
  return string.match(lane, '%u+$')
end

local function is_urgent_lane(lane)
  return string.sub(lane, -7) == ':URGENT'
end

-- The priority and rank of a task that is in one of the lanes it may be in; nothing if it is in none.
local function find_in_lane(task_type, queue, id)
  for priority, level in pairs(PRIORITIES) do
    local lane = lane_key(queue, level)
    local rank = redis.call('ZSCORE', lane, id) or redis.call('ZSCORE', lane .. ':' .. task_type, id)
    if rank then return priority, rank end
  end
end

-- Note that a lane has tasks: it enters the round robin, and its queue is known.
local function open_lane(queue, level)
  if redis.call('ZADD', round_robin_key(level), 'NX', ARGV.now_ms .. '000', queue) == 1 then
    redis.call('HSETNX', KEYS.queues, queue, 'open')
  end
end

-- Put tasks into the lane of their type, at the ranks they have. ranked: rank, id, rank, id, …
local function set_aside(queue, level, task_type, ranked)
  call_many('ZADD', lane_key(queue, level, task_type), ranked)
  redis.call('ZADD', round_robin_key(level, task_type), 'NX', ARGV.now_ms .. '000', queue)
  redis.call('SADD', KEYS.types_aside, task_type)
end

-- Take a queued task that was not claimed out of its lane, or out of the lane of its type. Its fair key gets the rank
-- back.
local function leave_lane(lane, cursors, id, fair_key)
  if redis.call('ZREM', lane, id) == 0 then
    local task_type = type_of(redis.call('HGET', KEYS.tasks, id) or '')
    if not task_type or redis.call('ZREM', lane .. ':' .. task_type, id) == 0 then return end
  end
  local last = number(redis.call('HGET', cursors, 'k:' .. fair_key))
  if last > 0 then redis.call('HSET', cursors, 'k:' .. fair_key, last - 1) end
end

-- Put tasks into a lane. entries: { id, fair_key, rank }; an entry with rank 0 is given the next one of its fair key.
local function enter_lane(queue, lane, cursors, entries)
  if #entries == 0 then return end
  local keys, ranked = {}, {}
  for _, entry in ipairs(entries) do
    if tonumber(entry.rank) == 0 then keys[#keys + 1] = entry.fair_key end
  end
  local ranks, next_one = #keys > 0 and give_ranks(cursors, keys), 0
  for i, entry in ipairs(entries) do
    if tonumber(entry.rank) == 0 then
      next_one = next_one + 1
      entry.rank = ranks[next_one]
    end
    ranked[2 * i - 1], ranked[2 * i] = entry.rank, entry.id
  end
  call_many('ZADD', lane, ranked)
  open_lane(queue, level_of(lane))
end
