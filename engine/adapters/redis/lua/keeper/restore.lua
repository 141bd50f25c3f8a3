-- restore: write the states of tasks again that were deleted, by what else is kept of each: the sets of what has ended,
-- runs and is due, then the outcomes. A task is queued only if nothing says that it has ever run.
-- Undeclared keys: the lanes, the running sets of the supervisors, the logs.
--
-- gives one word for each task
--       SOUND     it has a state or waits in its lane, there is no such task, or its record cannot be read
--       RESTORED  it has again the state that the sets tell
--       UNKNOWN   it is in no set, and has run: it has ended, with the outcome of its latest run or with one that says
--                 nobody knows what became of it. It is not run again
--       QUEUED    nothing says that it has run: it is in its lane
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
local signs = { KEYS.progress, KEYS.rescues, KEYS.cancel_requests }
local ended = { COMPLETED = KEYS.ended_completed, FAILED = KEYS.ended_failed, CANCELLED = KEYS.ended_cancelled,
  TIMEOUT = KEYS.ended_timeout }
local BY_CAUSE = { returned = 'COMPLETED', cancelled = 'CANCELLED', timeout = 'TIMEOUT', soft_timeout = 'TIMEOUT' }
local supervisors = redis.call('ZRANGE', KEYS.supervisors, 0, -1)

local function holder_of(id)
  for _, name in ipairs(supervisors) do
    if redis.call('SISMEMBER', running_key(name), id) == 1 then return name end
  end
end

-- The status by the set that a task is in, its run and its owner.
local function state_by_sets(id, latest)
  for status, set in pairs(ended) do
    if redis.call('ZSCORE', set, id) then return status, latest, '-' end
  end
  local owner = holder_of(id)
  if owner then return 'RUNNING', latest + 1, owner end  -- the number of the run is a guess: rank 0 says so
  if redis.call('ZSCORE', KEYS.due, id) then return latest > 0 and 'RETRYING' or 'PENDING', latest, '-' end
end

local function has_run(id)
  for _, sign in ipairs(signs) do
    if redis.call('HEXISTS', sign, id) == 1 then return true end
  end
  return redis.call('EXISTS', log_key(id)) == 1
end

-- The word for a task, and what becomes of it: status, run, owner, rank, priority, and whether it lacks an outcome.
local function judge(id)
  if redis.call('HEXISTS', KEYS.states, id) == 1 then return 'SOUND' end
  local task_type, queue, priority = head_of(redis.call('HGET', KEYS.tasks, id) or '')
  if not task_type or not is_queue_name(queue) then return 'SOUND' end
  local at_priority, rank = find_in_lane(task_type, queue, id)
  if at_priority == priority then return 'SOUND' end
  local latest, outcome = latest_run(id)
  local task = { id = id, run = latest, owner = '-', rank = 0, priority = priority, queue = queue }
  if at_priority then  -- its priority was changed
    task.status, task.priority, task.rank = 'QUEUED', at_priority, rank
    return 'RESTORED', task
  end
  local status, run, owner = state_by_sets(id, latest)
  if status then
    task.status, task.run, task.owner = status, run, owner
    return 'RESTORED', task
  end
  if outcome then
    task.status = BY_CAUSE[string.match(outcome, '"cause":"([%w_]+)"') or ''] or 'FAILED'
    return 'UNKNOWN', task
  end
  if not has_run(id) then return 'QUEUED', task end
  task.status, task.run, task.lacks_outcome = 'FAILED', 1, true
  return 'UNKNOWN', task
end

local words, found = {}, {}
for n = 1, #ARGV.ids do
  local word, task = judge(ARGV.ids[n].id)
  words[n] = word
  if task then
    task.word = word
    found[#found + 1] = task
  end
end
if #found == 0 then return words end
------------------------------------------------------------------- write
write_even_when_full(KEYS.states)
local rows, over = {}, {}
for _, task in ipairs(found) do
  if task.word == 'QUEUED' then
    local level = PRIORITIES[task.priority]
    task.status, task.fair_key = 'QUEUED', ''
    enter_lane(task.queue, lane_key(task.queue, level), cursors_key(task.queue, level), { task })
  elseif task.word == 'UNKNOWN' then
    if task.lacks_outcome then
      redis.call('HSET', KEYS.outcomes, task.id .. ':' .. task.run, outcome_without_run(task.run, 'lease_lost',
        'LeaseLost', 'what was kept of its state was deleted: it may have run, so it is not started again'))
    end
    redis.call('ZADD', ended[task.status], ARGV.remove_ms, task.id)
  end
  if task.word ~= 'RESTORED' then rows[#rows + 1] = task.id .. ' ' .. task.status .. ' ' .. task.run end
  if FINAL[task.status] then over[#over + 1] = task.id end
  move_task(task.id, format_state(task.status, task.run, 0, 0, task.priority, task.rank, ARGV.now_ms, task.owner))
end
count_up(KEYS.counters, 'mended', #found)
add_events(rows)
after_end({ ids = over })
for _, task in ipairs(found) do
  if task.word == 'QUEUED' then wake_supervisors(task.queue, 1, task.priority == 3) end
end
return words
