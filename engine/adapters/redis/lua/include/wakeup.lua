-- Waking supervisors that have said they are idle.
--
-- idle_supervisors: supervisor -> `serves idle_workers said_ms`: the queues it serves, how many of its workers have
-- nothing to do, when it said so. Or `!serves`: all its workers are busy, and it would suspend a run for an urgent one.
-- That may not hold any more when an urgent task comes, so several are woken then: URGENT_WAKEUPS_MIN.

local URGENT_WAKEUPS_MIN = 3

local function format_idle(serves, idle_workers, said_ms)
  return serves .. ' ' .. idle_workers .. ' ' .. said_ms
end

local function parse_idle(noted)
  local serves, idle_workers, said_ms = string.match(noted, '^(%S+) ?(%d*) ?(%d*)$')
  return serves or '', tonumber(idle_workers) or 0, tonumber(said_ms) or 0
end

local function is_served(queue, serves)
  return serves == '*' or string.find(serves, ',' .. queue .. ',', 1, true)
end

-- Whether a supervisor has registered the type; nil is any type.
local function knows_type(supervisor, task_type)
  return not task_type or redis.call('SISMEMBER', types_key(supervisor), task_type) == 1
end

-- Wake up to `count` idle supervisors that serve the queue. For urgent tasks, if there are too few, wake busy ones
-- that would suspend a run. One that does not listen is gone, and is passed over.
-- supervisors: what the caller has read of idle_supervisors, if it has; those that were woken are taken out of it.
-- task_type: the type of the tasks if they have one in common. Without it a supervisor may be woken that does not know
-- the type: it sets the task aside and wakes another.
local function wake_supervisors(queue, count, is_urgent, supervisors, task_type)
  supervisors = supervisors or redis.call('HGETALL', KEYS.idle_supervisors)
  local busy = {}
  local function wake(i)
    supervisors[i + 1] = ''
    redis.call('HDEL', KEYS.idle_supervisors, supervisors[i])
    if redis.call('PUBLISH', wakeup_channel(supervisors[i]), queue) > 0 then count = count - 1 end
  end
  for i = 1, #supervisors, 2 do
    if count <= 0 then return end
    if string.byte(supervisors[i + 1]) == 33 then  -- '!'
      busy[#busy + 1] = i
    elseif is_served(queue, parse_idle(supervisors[i + 1])) and knows_type(supervisors[i], task_type) then
      wake(i)
    end
  end
  if not is_urgent or count <= 0 then return end
  count = math.max(count, URGENT_WAKEUPS_MIN)
  for _, i in ipairs(busy) do
    local serves = string.sub(supervisors[i + 1], 2)
    if count > 0 and is_served(queue, serves) and knows_type(supervisors[i], task_type) then wake(i) end
  end
end

-- Tell the keeper of a moment that may come earlier than the next one it knows of.
local function wake_keeper(moment_ms)
  redis.call('PUBLISH', wakeup_channel('keeper'), string.format('%d', moment_ms))
end
