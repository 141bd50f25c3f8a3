-- Settling the runs that a supervisor has ended. `weigh` only checks, so that nothing is written before every
-- settlement was weighed; `settle` writes what it has found.
--
-- The common case is a task that is RUNNING under this supervisor and completed: its state is not parsed, only its
-- start and its end are looked at.

local RUNNING, NOTIFIED_BYTES_MAX = 'RUNNING ', 16384

local settled  -- what is to be written, once there is a settlement: most steps of an idle supervisor have none

local function is_moment(at)
  local moment = tonumber(at)
  return moment and moment >= 0 and moment < 1e15
end

-- The word of refusal; or nil, the new state without its last two fields, and the new status.
local function weigh_in_full(id, state, run, verdict, at)
  local supervisor = ARGV.supervisor
  if not state then  -- it was deleted: that the supervisor holds the run is known all the same
    local record = redis.call('SISMEMBER', KEYS.running, id) == 1 and redis.call('HGET', KEYS.tasks, id)
    if not record then return 'GONE' end
    local priority = string.match(record, '^%["[^"\\]*","[^"]*",([0-3])') or 1
    state = format_state('RUNNING', run, 0, 0, priority, 0, ARGV.now_ms, supervisor)
  end
  local move, charged_to = string.match(verdict, '^(%S+) (%S+)$')
  local to = MOVES['RUNNING:' .. (move or '')]
  if not to then return 'ILLEGAL' end
  local status, at_run, attempts, crashes, priority, rank, _, owner = parse_state(state)
  local is_restored = rank == '0' and status == 'RUNNING' and owner == supervisor
  if is_restored then at_run = run end  -- its number was a guess
  if at_run ~= run then return 'STALE' end
  if status ~= 'RUNNING' then return status == to and 'ALREADY' or 'STALE' end
  if owner ~= supervisor then return 'STALE' end
  if to == 'QUEUED' then
    local queue, task_type = string.match(at, '^(%S+) ?(.*)$')
    if not queue or not is_queue_name(queue) then return 'ILLEGAL' end
    settled.releases[#settled.releases + 1] = { id = id, level = PRIORITIES[tonumber(priority)], rank = rank,
      queue = queue, task_type = task_type ~= '' and task_type or nil }
  elseif not is_moment(at) then
    return 'ILLEGAL'
  end
  if charged_to == 'attempt' then attempts = attempts + 1 elseif charged_to == 'crash' then crashes = crashes + 1 end
  return nil, table.concat({ to, run, attempts, crashes, priority, rank }, ' '), to
end

-- Sort out what an accepted settlement has to write.
local function accept(id, run, to, at, outcome)
  if outcome ~= '' then
    local outcomes = settled.outcomes
    outcomes[#outcomes + 1], outcomes[#outcomes + 2] = id .. ':' .. run, outcome
  end
  if FINAL[to] then
    local removals, ended = settled.ended[to], batch.ended
    if not removals then
      removals = {}
      settled.ended[to] = removals
    end
    removals[#removals + 1], removals[#removals + 2] = at, id
    ended.ids[#ended.ids + 1] = id
    ended.last_status, ended.last_outcome = to, outcome
  elseif to == 'RETRYING' then
    settled.retries[#settled.retries + 1], settled.retries[#settled.retries + 2] = at, id
  end
end

local function weigh()
  local total, ids = #ARGV.settlements, {}
  if total == 0 then return end
  settled = { ids = {}, moves = {}, outcomes = {}, retries = {}, releases = {}, ended = {}, count = 0 }
  for n = 1, total do ids[n] = ARGV.settlements[n].task_id end
  local sub, byte, states = string.sub, string.byte, read_many('HMGET', KEYS.states, ids)
  local ours, suffix, space = ' ' .. ARGV.supervisor, ' ' .. ARGV.now_ms .. ' -', 32
  local tail_length = #ARGV.supervisor + 15  -- of ' at_ms supervisor', where at_ms has 13 digits until the year 2286
  local completed_status, seen, accepted, completed, good_at = MOVES['RUNNING:complete'], {}, 0, 0, nil
  local settled_ids, moves, rows, row_count = settled.ids, settled.moves, batch.rows, #batch.rows
  for n = 1, total do
    local id, run, verdict, at = ids[n], ARGV.settlements[n].run, ARGV.settlements[n].verdict, ARGV.settlements[n].at
    local state, word, new, to = states[n], nil, nil, nil
    if seen[id] then
      word = 'STALE'
    elseif verdict == 'complete nobody' and state and sub(state, 1, #run + 9) == RUNNING .. run .. ' '
        and sub(state, -#ours) == ours and byte(state, -tail_length) == space and (at == good_at or is_moment(at)) then
      good_at = at
      to = completed_status
      new = to .. sub(state, 8, -tail_length - 1)
    else
      word, new, to = weigh_in_full(id, state, run, verdict, at)
    end
    if word then
      batch.refused[#batch.refused + 1], batch.refused[#batch.refused + 2] = n, word
    else
      seen[id] = true
      accepted = accepted + 1
      settled_ids[accepted] = id
      moves[2 * accepted - 1], moves[2 * accepted] = id, new .. suffix
      accept(id, run, to, at, ARGV.settlements[n].outcome)
      row_count = row_count + 1
      rows[row_count] = id .. ' ' .. to .. ' ' .. run
      if to == 'COMPLETED' then
        completed = completed + 1
      else
        count(to == 'QUEUED' and 'released' or to, 1)
      end
    end
  end
  if completed > 0 then count('COMPLETED', completed) end
  settled.count = accepted
end

-- Queue the released tasks again, each at its rank; one of a type that the supervisor does not know is set aside.
local function release(releases)
  for _, task in ipairs(releases) do
    if task.task_type then
      set_aside(task.queue, task.level, task.task_type, { task.rank, task.id })
    else
      redis.call('ZADD', lane_key(task.queue, task.level), task.rank, task.id)
      open_lane(task.queue, task.level)
    end
    wake_supervisors(task.queue, 1, task.level == 'URGENT', nil, task.task_type)
  end
end

local function settle()
  if not settled or settled.count == 0 then return end
  local ended_keys = { COMPLETED = KEYS.ended_completed, FAILED = KEYS.ended_failed, CANCELLED = KEYS.ended_cancelled,
    TIMEOUT = KEYS.ended_timeout }
  move_tasks(settled.moves)
  call_many('HSET', KEYS.outcomes, settled.outcomes)
  call_many('SREM', KEYS.running, settled.ids)
  if redis.call('EXISTS', KEYS.progress) == 1 then call_many('HDEL', KEYS.progress, settled.ids) end
  for status, removals in pairs(settled.ended) do call_many('ZADD', ended_keys[status], removals) end
  local retries = settled.retries
  if #retries > 0 then
    call_many('ZADD', KEYS.due, retries)
    local soonest_ms = math.huge
    for i = 1, #retries, 2 do soonest_ms = math.min(soonest_ms, retries[i]) end
    wake_keeper(soonest_ms)
  end
  release(settled.releases)
  local ended = batch.ended
  if #ended.ids == 1 and ended.last_outcome ~= '' and #ended.last_outcome <= NOTIFIED_BYTES_MAX then
    ended.notification = ended.last_status .. ' ' .. ended.last_outcome
  end
end
