-- restore: write the life lines of tasks anew that were deleted, by what else is kept of each: the sets of what has
-- ended, runs and is due, then the outcomes. A task is only queued where nothing says that it has ever run.
--
-- keys  tasks, life, outcomes, due, supervisors, progress, rescues, cancels, idle, events, counters, waiters,
--       ended COMPLETED, ended FAILED, ended CANCELLED, ended TIMEOUT
--       and, since only this script knows them: the lines, the held of the supervisors, the logs
-- args  base, now_ms, remove_ms, then ids
-- gives one word per task
--       SOUND     it has a life line or waits in its line, there is no such task, or its record cannot be read
--       RESTORED  it is again what the sets say of it
--       UNKNOWN   it is in no set, and has run: it has ended, with the outcome of its latest run or as one of which
--                 nobody knows what became. It is not run again
--       QUEUED    nothing says that it has run: it is in its line
local tasks, life, outcomes, due, supervisors = unpack(KEYS, 1, 5)
local signs = { KEYS[6], KEYS[7], KEYS[8] }
local idle, events, counters, waiters = unpack(KEYS, 9, 12)
local ended = { COMPLETED = KEYS[13], FAILED = KEYS[14], CANCELLED = KEYS[15], TIMEOUT = KEYS[16] }
local base, now_ms, remove_ms = unpack(ARGV, 1, 3)
local BY_CAUSE = { returned = 'COMPLETED', cancelled = 'CANCELLED', timeout = 'TIMEOUT', soft_timeout = 'TIMEOUT' }
local names = redis.call('ZRANGE', supervisors, 0, -1)

local function holder(id)
  for _, name in ipairs(names) do
    if redis.call('SISMEMBER', base .. 'held:' .. name, id) == 1 then return name end
  end
end

-- The status by the set that a task is in, its run and its owner.
local function state_by_sets(id, latest)
  for status, set in pairs(ended) do
    if redis.call('ZSCORE', set, id) then return status, latest, '-' end
  end
  local owner = holder(id)
  if owner then return 'RUNNING', latest + 1, owner end  -- the number of the run is a guess: place 0 says so
  if redis.call('ZSCORE', due, id) then return latest > 0 and 'RETRYING' or 'PENDING', latest, '-' end
end

local function has_run(id)
  for _, sign in ipairs(signs) do
    if redis.call('HEXISTS', sign, id) == 1 then return true end
  end
  return redis.call('EXISTS', base .. 'log:' .. id) == 1
end

-- What is to become of a task: a word, its status, run, owner, place, priority, and the outcome that it lacks.
local function judge(id)
  if redis.call('HEXISTS', life, id) == 1 then return 'SOUND' end
  local kind, queue, priority = head_of(redis.call('HGET', tasks, id) or '')
  if not kind or not is_queue_name(queue) then return 'SOUND' end
  local at_priority, place = found_in_line(base, kind, queue, id)
  if at_priority == priority then return 'SOUND' end
  local latest, outcome = latest_run(outcomes, id)
  local task = { id = id, run = latest, owner = '-', place = 0, priority = priority, queue = queue }
  if at_priority then  -- its priority was changed
    task.status, task.priority, task.place = 'QUEUED', at_priority, place
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
  task.status, task.run, task.is_without_outcome = 'FAILED', 1, true
  return 'UNKNOWN', task
end

local words, found = {}, {}
for i = 4, #ARGV do
  local word, task = judge(ARGV[i])
  words[#words + 1] = word
  if task then
    task.word = word
    found[#found + 1] = task
  end
end
if #found == 0 then return words end
------------------------------------------------------------------- write
even_when_full(life)
local rows, over = {}, {}
for _, task in ipairs(found) do
  if task.word == 'QUEUED' then
    local ending = task.queue .. ':' .. PRIORITIES[task.priority]
    task.status, task.fair_key = 'QUEUED', ''
    queue_up(base, task.queue, base .. 'line:' .. ending, base .. 'flows:' .. ending, { task }, now_ms)
  elseif task.word == 'UNKNOWN' then
    if task.is_without_outcome then
      redis.call('HSET', outcomes, task.id .. ':' .. task.run, outcome_without_run(task.run, now_ms, 'lease_lost',
        'LeaseLost', 'what was kept of its state was deleted: it may have run, so it is not started again'))
    end
    redis.call('ZADD', ended[task.status], remove_ms, task.id)
  end
  if task.word ~= 'RESTORED' then rows[#rows + 1] = task.id .. ' ' .. task.status .. ' ' .. task.run end
  if FINAL[task.status] then over[#over + 1] = task.id end
  redis.call('HSET', life, task.id, format_life(task.status, task.run, 0, 0, task.priority, task.place, now_ms,
    task.owner))
end
count_up(counters, 'mended', #found)
add_events(events, rows)
tell_waiters(waiters, base, over)
for _, task in ipairs(found) do
  if task.word == 'QUEUED' then ring_bells(idle, base, task.queue, 1, task.priority == 3) end
end
return words
