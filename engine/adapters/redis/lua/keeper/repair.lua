-- repair: put a task where its state says that it is, or take an id from where it does not belong. The caller has seen
-- that something is wrong; all of it is checked again here.
--
-- For each suspect: what is wrong; state as seen; is_stored (1 | 0); up to three keys:
-- what      its keys            done
-- line      lane, cursors       a QUEUED task is in no lane, or in one outside the round robin: both is put right
-- due       due                 a PENDING or RETRYING task has no moment: it gets the one of its submit, or now
-- ahead     due                 a RETRYING task was dated by a clock that has been set back since: its pause begins now
-- ended     ended, of its status  an ended task has no moment of removal: it gets one
-- held      running, lane, cursors  a RUNNING task is not in its supervisor's running set: it is now; if the supervisor
--                               is gone, the task is queued
-- spent     running, ended FAILED, outcomes  the same of a task that may not be started again: if the supervisor is
--                               gone, the task has failed
-- zset      the zset            an id is in a lane, in due or in ended and does not belong there: it is taken out
-- set       running             an id is in a running set and does not run under that supervisor: it is taken out
-- life      -                   a state belongs to no task: it is removed
-- lost      ended FAILED, outcomes, due  the state of a task cannot be read: it fails, under a run number above all others
-- gives one word for each suspect: REPAIRED | SOUND
--       ASTRAY  it has no state and is in none of its lanes: nothing is written. Its state may be lost: see restore
-- include: commands
-- include: keys
-- include: state
-- include: records
-- include: ranks
-- include: lanes
-- include: outcomes
-- include: wakeup
-- include: events
-- include: after_end
local BROKEN_RUN = 1000000  -- no run that may still go on has this number, so none can settle
local rows, queued, over = {}, {}, {}

-- Checks

local function has_supervisor(task)
  return redis.call('ZSCORE', KEYS.supervisors, task.owner)
end

local function is_not_held(task, running)
  return task.status == 'RUNNING' and (redis.call('SISMEMBER', running, task.id) == 0
    or not has_supervisor(task))
end

-- Whether a queued task is in its lane or in the lane of its type, and that lane is in the round robin.
local function waits_in_turn(task, lane)
  local level = level_of(lane)
  if redis.call('ZSCORE', lane, task.id) then return redis.call('ZSCORE', round_robin_key(level), task.queue) end
  local task_type = type_of(redis.call('HGET', KEYS.tasks, task.id) or '')
  return task_type and redis.call('ZSCORE', lane .. ':' .. task_type, task.id)
    and redis.call('ZSCORE', round_robin_key(level, task_type), task.queue)
    and redis.call('SISMEMBER', KEYS.types_aside, task_type) == 1
end

local function is_astray(task, lane)
  local record = redis.call('HGET', KEYS.tasks, task.id)
  local task_type = record and not redis.call('ZSCORE', lane, task.id) and (type_of(record) or '')
  return task_type and not redis.call('ZSCORE', lane .. ':' .. task_type, task.id)
end

-- Whether a task has no state although it is in no lane either: where it was found is all that is known of it.
local function has_lost_its_state(task)
  return task.exists and not task.is_stored and task.queue ~= ''
    and not waits_in_turn(task, lane_key(task.queue, PRIORITIES[tonumber(task.priority)]))
end

-- what -> whether it is wrong
local is_wrong = {
  line = function(task, lane) return task.status == 'QUEUED' and not waits_in_turn(task, lane) end,
  due = function(task, due)
    return (task.status == 'PENDING' or task.status == 'RETRYING') and not redis.call('ZSCORE', due, task.id)
  end,
  ahead = function(task, due)
    return task.status == 'RETRYING' and tonumber(task.at_ms) > tonumber(ARGV.now_ms)
      and redis.call('ZSCORE', due, task.id)
  end,
  ended = function(task, ended) return FINAL[task.status] and not redis.call('ZSCORE', ended, task.id) end,
  held = is_not_held,
  spent = is_not_held,
  zset = function(task, zset) return redis.call('ZSCORE', zset, task.id) and not has_lost_its_state(task) end,
  set = function(task, running)
    return redis.call('SISMEMBER', running, task.id) == 1 and not has_lost_its_state(task)
  end,
  life = function(task) return not task.exists end,
  lost = function(task) return task.exists and not STATUSES[task.status or ''] end,
}
-- What repairs of these kinds write is the state, which a later suspect of the same task was not seen with.
local CHANGES_STATE = { line = true, ahead = true, held = true, spent = true, life = true, lost = true }

-- Repairs

local function queue_again(task, lane, cursors)
  enter_lane(task.queue, lane, cursors, { task })
  move_task(task.id, format_state('QUEUED', task.run, task.attempts, task.crashes, task.priority, task.rank,
    ARGV.now_ms, '-'))
  rows[#rows + 1] = task.id .. ' QUEUED ' .. task.run
  queued[#queued + 1] = task
end

local function fail(task, failed, outcomes, state, run, cause, error_kind, message)
  move_task(task.id, state)
  redis.call('HSET', outcomes, task.id .. ':' .. run, outcome_without_run(run, cause, error_kind, message))
  redis.call('ZADD', failed, ARGV.remove_ms, task.id)
  rows[#rows + 1] = task.id .. ' FAILED ' .. run
  over[#over + 1] = task.id
end

local repair = {
  -- It is put into the lane of its queue and leaves the one of its type.
  line = function(task, lane, cursors)
    local task_type = type_of(redis.call('HGET', KEYS.tasks, task.id) or '')
    if task_type then redis.call('ZREM', lane .. ':' .. task_type, task.id) end
    task.rank = redis.call('ZSCORE', lane, task.id) or task.rank
    queue_again(task, lane, cursors)
  end,
  due = function(task, due)
    local can_be_read, options = pcall(function()
      return cjson.decode(string.match(redis.call('HGET', KEYS.tasks, task.id), '^[^\n]*'))[4]
    end)
    local due_ms = task.status == 'PENDING' and can_be_read and type(options) == 'table' and tonumber(options.due_ms)
    redis.call('ZADD', due, due_ms and string.format('%.0f', due_ms) or ARGV.now_ms, task.id)
  end,
  ahead = function(task, due)
    local pause_ms = math.max(0, redis.call('ZSCORE', due, task.id) - task.at_ms)
    redis.call('ZADD', due, ARGV.now_ms + pause_ms, task.id)
    move_task(task.id, format_state(task.status, task.run, task.attempts, task.crashes, task.priority, task.rank,
      ARGV.now_ms, '-'))
  end,
  ended = function(task, ended) redis.call('ZADD', ended, ARGV.remove_ms, task.id) end,
  held = function(task, running, lane, cursors)
    if has_supervisor(task) then return redis.call('SADD', running, task.id) end
    redis.call('SREM', running, task.id)
    queue_again(task, lane, cursors)
  end,
  spent = function(task, running, failed, outcomes)
    if has_supervisor(task) then return redis.call('SADD', running, task.id) end
    redis.call('SREM', running, task.id)
    local state = format_state('FAILED', task.run, task.attempts, task.crashes, task.priority, task.rank, ARGV.now_ms,
      '-')
    fail(task, failed, outcomes, state, task.run, 'lease_lost', 'LeaseLost',
      'its supervisor is gone, and it must not be started again')
  end,
  zset = function(task, zset) redis.call('ZREM', zset, task.id) end,
  set = function(task, running) redis.call('SREM', running, task.id) end,
  life = function(task) forget_states({ task.id }) end,
  lost = function(task, failed, outcomes, due)
    local state = format_state('FAILED', BROKEN_RUN, 0, 0, 1, 0, ARGV.now_ms, '-')
    fail(task, failed, outcomes, state, BROKEN_RUN, 'invalid_payload', 'UnreadableRecord',
      'its state cannot be read, so nobody knows whether it has run')
    redis.call('ZREM', due, task.id)
  end,
}

local words, wrong, seen = {}, {}, {}
for n = 1, #ARGV.suspects do
  local what, id, is_stored = ARGV.suspects[n].what, ARGV.suspects[n].id, ARGV.suspects[n].is_stored
  local key, state = KEYS.suspects[n].first, redis.call('HGET', KEYS.states, id)
  local task = { n = n, what = what, id = id, exists = redis.call('HEXISTS', KEYS.tasks, id) == 1,
    fair_key = ARGV.suspects[n].fair_key, queue = ARGV.suspects[n].queue, is_stored = is_stored == '1' }
  task.status, task.run, task.attempts, task.crashes, task.priority, task.rank, task.at_ms, task.owner =
    parse_state(ARGV.suspects[n].state)
  local is_same = is_stored == '1' and state == ARGV.suspects[n].state or is_stored == '0' and not state
  if seen[id] or seen[what .. key .. id] then is_same = false end
  if is_same and what == 'line' and is_stored == '0' and is_astray(task, key) then
    words[n] = 'ASTRAY'
  elseif is_same and is_wrong[what](task, key) then
    words[n] = 'REPAIRED'
    wrong[#wrong + 1] = task
    seen[CHANGES_STATE[what] and id or what .. key .. id] = true
  else
    words[n] = 'SOUND'
  end
end
if #wrong == 0 then return words end
------------------------------------------------------------------- write
write_even_when_full(KEYS.states)
for _, task in ipairs(wrong) do
  local n = task.n
  repair[task.what](task, KEYS.suspects[n].first, KEYS.suspects[n].second, KEYS.suspects[n].third)
end
count_up(KEYS.counters, 'mended', #wrong)
add_events(rows)
after_end({ ids = over })
for _, task in ipairs(queued) do wake_supervisors(task.queue, 1, task.priority == '3') end
return words
