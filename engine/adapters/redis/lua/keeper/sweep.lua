-- sweep: forget tasks whose moment of removal has come, and all that is kept of them; the most overdue status first.
-- It takes out by position what it finds by position, and asks once for keys that mostly are not there, not for each
-- task.
--
-- limit: how many tasks at most
-- gives how many were taken from the sets, and in ms the moment of the next removal, '' if there is none
--       A member that is no task, or whose task has not ended so, is only taken from the set.
--       Undeclared keys: the logs of the tasks.
-- include: commands
-- include: keys
-- include: state
-- include: records
-- include: lanes
-- include: outcomes
local now_ms, limit = tonumber(ARGV.now_ms), tonumber(ARGV.limit)
local SETS = { KEYS.ended_completed, KEYS.ended_failed, KEYS.ended_cancelled, KEYS.ended_timeout }
local ENDED = { [SETS[1]] = 'COMPLETED', [SETS[2]] = 'FAILED', [SETS[3]] = 'CANCELLED', [SETS[4]] = 'TIMEOUT' }
local RUNS_MAX = 1000  -- whose outcomes are looked for: a number that somebody has written must not stop Redis
local SLICE = 1000  -- tasks at once

-- The set whose first moment comes before that of the others, and that moment.
local function most_overdue()
  local set, soonest
  for _, key in ipairs(SETS) do
    local moment = tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or '')
    if moment and (not soonest or moment < soonest) then set, soonest = key, moment end
  end
  return set, soonest
end

-- The status and run of a task whose state was deleted: it has ended as the set says, unless it waits in a lane.
local function lost_state(id, status)
  local task_type, queue = head_of(redis.call('HGET', KEYS.tasks, id) or '')
  if task_type and not find_in_lane(task_type, queue, id) then return status, tostring((latest_run(id))) end
end

-- A moment without end was written by somebody else.
local function moment_text(moment)
  return moment and moment < math.huge and string.format('%.0f', moment) or ''
end

local set, soonest = most_overdue()
if not set or soonest > now_ms then return { 0, moment_text(soonest) } end
------------------------------------------------------------------- write
local taken = 0
while taken < limit and set and soonest <= now_ms do
  local ids = redis.call('ZRANGEBYSCORE', set, '-inf', ARGV.now_ms, 'LIMIT', 0, math.min(limit - taken, SLICE))
  local states, gone, logs, runs = read_many('HMGET', KEYS.states, ids), {}, {}, {}
  for n, id in ipairs(ids) do
    local status, run
    if states[n] then
      status, run = string.match(states[n], '^(%u+) (%d+) ')
    else
      status, run = lost_state(id, ENDED[set])
    end
    if status == ENDED[set] and #run <= 9 then
      gone[#gone + 1] = id
      logs[#logs + 1] = log_key(id)
      for past = math.max(0, run - RUNS_MAX), tonumber(run) do runs[#runs + 1] = id .. ':' .. past end
    end
  end
  redis.call('ZREMRANGEBYRANK', set, 0, #ids - 1)
  if #gone > 0 then
    call_many('HDEL', KEYS.tasks, gone)
    forget_states(gone)
    call_many('HDEL', KEYS.outcomes, runs)
    for _, key in ipairs({ KEYS.progress, KEYS.rescues, KEYS.waiters }) do
      if redis.call('EXISTS', key) == 1 then call_many('HDEL', key, gone) end
    end
    if redis.call('EXISTS', KEYS.expiring) == 1 then call_many('ZREM', KEYS.expiring, gone) end
    call_many('UNLINK', logs[1], logs)
  end
  taken = taken + #ids
  set, soonest = most_overdue()
end
return { taken, moment_text(soonest) }
