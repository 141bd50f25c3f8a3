-- Claiming: take tasks out of their lanes, admit them, and start their runs.

local LOOKS_MAX = 4  -- at the lanes in one step

-- End a task that came up after its `expires`. A run that ended in a retry keeps its own outcome.
local function expire(id, run, attempts, crashes, priority, rank)
  run = run + redis.call('HEXISTS', KEYS.outcomes, id .. ':' .. run)
  move_task(id, format_state('FAILED', run, attempts, crashes, priority, rank, ARGV.now_ms, '-'))
  redis.call('HSET', KEYS.outcomes, id .. ':' .. run, expired_outcome(run))
  redis.call('ZADD', KEYS.ended_failed, ARGV.expired_remove_ms, id)
  batch.rows[#batch.rows + 1] = id .. ' FAILED ' .. run
  count('FAILED', 1)
  after_end({ ids = { id } })
end

-- The run and its counters for a task that was claimed before or expires; nil if it is not to be started.
local function counters_of(id, record, state, priority, rank, expires_ms)
  local status, run, attempts, crashes = 'QUEUED', 0, 0, 0
  if state then status, run, attempts, crashes = parse_state(state) end
  if not record or not MOVES[(status or '') .. ':claim'] then
    count('strays', 1)  -- an id without a task, or of a task that is not queued: the lane was wrong, and is right now
  elseif expires_ms and tonumber(expires_ms) <= tonumber(ARGV.now_ms) then
    expire(id, run, attempts, crashes, priority, rank)
  else
    return run + 1, (run + 1) .. ' ' .. attempts .. ' ' .. crashes
  end
end

-- Raise the cursor of a lane to the rank that was claimed last.
local function advance_cursor(lane, rank)
  local cursors = cursors_key(lane.queue, PRIORITIES[LEVELS[lane.position]])
  if number(rank) > number(redis.call('HGET', cursors, 'v')) then redis.call('HSET', cursors, 'v', rank) end
end

-- Start the runs of admitted tasks. chosen: as in `admit`
local function start(chosen)
  local ids, records, ranks, priorities, lanes = chosen.ids, chosen.records, chosen.ranks, chosen.priorities, chosen.lanes
  local states = read_many('HMGET', KEYS.states, ids)
  local limits = redis.call('EXISTS', KEYS.expiring) == 1 and read_many('ZMSCORE', KEYS.expiring, ids) or {}
  local claimed, rows, row_count = batch.claimed, batch.rows, #batch.rows
  local moves, members, started, at = {}, {}, 0, #claimed
  local prefix, suffix, has_limits = 'RUNNING ', ' ' .. ARGV.now_ms .. ' ' .. ARGV.supervisor, #limits > 0
  local furthest, lane, rank = {}, nil, nil
  for i = 1, #ids do
    local id, record, state, priority = ids[i], records[i], states[i], priorities[i]
    local run, counters = '1', '1 0 0'
    local is_fresh = record and not state and not (has_limits and limits[i])  -- as most are: never claimed before
    if not is_fresh then
      run, counters = counters_of(id, record, state, priority, ranks[i], limits[i])
      row_count = #rows
    end
    if counters then
      started = started + 1
      local kept = not is_fresh and ranks[i] == '0' and '1' or ranks[i]  -- 0 says that the number of a run is a guess
      moves[2 * started - 1] = id
      moves[2 * started] = prefix .. counters .. ' ' .. priority .. ' ' .. kept .. suffix
      row_count = row_count + 1
      rows[row_count] = id .. ' RUNNING ' .. run
      members[started] = id
      if lanes[i] ~= lane then
        if lane then furthest[lane] = rank end
        lane = lanes[i]
      end
      rank = ranks[i]
      claimed[at + 1], claimed[at + 2], claimed[at + 3] = id, record, state and counters .. ' ' .. priority or counters
      at = at + 3
    end
  end
  if has_limits then call_many('ZREM', KEYS.expiring, ids) end
  if lane then furthest[lane] = rank end
  for served, last in pairs(furthest) do advance_cursor(served, last) end
  move_tasks(moves)
  call_many('SADD', KEYS.running, members)
  if started > 0 then count('runs', started) end
end

-- Claim up to n tasks of the first lanes in the round robin. Return how many were started, and whether there may be
-- more: true, or 'full' if one answer may not have more.
local answer_bytes = 0
local function claim_some(claimer, n)
  local ids, ranks, priorities, lanes, is_cut = choose(claimer, n)
  if #ids == 0 then return 0, is_cut end
  local records, bytes = read_records(ids, answer_bytes)
  answer_bytes = bytes
  for i = #ids, #records + 1, -1 do  -- more than one answer may have: back to their lanes
    local lane = lanes[i]
    redis.call('ZADD', lane.key, ranks[i], ids[i])
    redis.call('ZADD', lane.round_robin, 'NX', ARGV.now_ms .. '000', lane.queue)
    ids[i], is_cut = nil, 'full'
  end
  local chosen = { ids = ids, records = records, ranks = ranks, priorities = priorities, lanes = lanes }
  if admit(chosen) > 0 then is_cut = is_cut or true end
  if #ids > 0 then start(chosen) end
  return #ids, is_cut
end

-- Claim up to n tasks; return how many there were. If there may be more, the supervisor is woken to ask again, and
-- counts as one that got all it wanted.
local function claim(n)
  if n == 0 then return 0 end
  local depth = ARGV.preempts == '!' and 1 or 4
  local claimer = new_claimer({ ageing_ms = tonumber(ARGV.ageing_ms), depth = depth })
  local taken, looks, some, is_cut = 0, 0, 0, true
  while taken < n and is_cut and is_cut ~= 'full' and looks < LOOKS_MAX do
    some, is_cut = claim_some(claimer, n - taken)
    taken, looks = taken + some, looks + 1
  end
  if taken < n and (is_cut or taken > 0 and claimer.has_more_types) then
    redis.call('PUBLISH', wakeup_channel(ARGV.supervisor), '!')
    return n
  end
  return taken
end
