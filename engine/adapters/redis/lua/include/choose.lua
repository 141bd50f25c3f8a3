-- Which of the waiting tasks come next: strictly by level, and within a level by turns over the lanes. Only lanes in
-- the round robin are looked at, so this costs the same however many queues there are.
--
-- claimer: { now_ms, serves, names: of the queues in serves, ageing_ms, depth: levels to look at,
--            types: those whose lanes aside are looked at, is_read_only: nothing may be written }
local LEVELS = { 3, 2, 1, 0 }
local LANES_MAX = 64  -- of one level, and of one type in it, in one survey
local TYPES_MAX = 8  -- whose lanes aside are looked at in one step
local TYPES_ASKED_MAX = 1000  -- that are asked whether any task of them waits

-- The types that this supervisor can run and of which tasks were set aside. If there are many, others come with the
-- next ms. A type that is in no round robin is forgotten; otherwise a few old types could hide one that has tasks.
local function choose_types_aside(claimer)
  if redis.call('EXISTS', KEYS.types_aside) == 0 then return {} end
  local types = redis.call('SINTER', KEYS.types_aside, KEYS.types)
  local found, over, first = {}, {}, #types > TYPES_MAX and claimer.now_ms % #types or 0
  for n = 1, math.min(#types, TYPES_ASKED_MAX) do
    local task_type = types[(first + n - 1) % #types + 1]
    local is_waiting = redis.call('EXISTS', round_robin_key('LOW', task_type), round_robin_key('NORMAL', task_type),
      round_robin_key('HIGH', task_type), round_robin_key('URGENT', task_type)) > 0
    if is_waiting and #found == TYPES_MAX then
      claimer.has_more_types = true
      break
    end
    local list = is_waiting and found or over
    list[#list + 1] = task_type
  end
  if not claimer.is_read_only then call_many('SREM', KEYS.types_aside, over) end
  return found
end

-- options: { ageing_ms, depth, is_read_only }
local function new_claimer(options)
  local claimer, names = options, {}
  claimer.now_ms, claimer.serves, claimer.names = tonumber(ARGV.now_ms), ARGV.serves, names
  if claimer.serves ~= '*' then
    for name in string.gmatch(claimer.serves, '[^,]+') do names[#names + 1] = name end
  end
  claimer.types = choose_types_aside(claimer)
  return claimer
end

-- The queues in a round robin and when they were served last, flat: all of them, or those that the claimer serves.
local function read_round_robin(claimer, round_robin)
  if claimer.serves == '*' then return redis.call('ZRANGE', round_robin, 0, LANES_MAX - 1, 'WITHSCORES') end
  local found, scores = {}, read_many('ZMSCORE', round_robin, claimer.names)
  for n, name in ipairs(claimer.names) do
    if scores[n] then found[#found + 1], found[#found + 2] = name, scores[n] end
  end
  return found
end

-- Add the lanes of one level and type to `all`; return whether there are more than were looked at.
local function add_lanes(claimer, position, task_type, all, names)
  local level = PRIORITIES[LEVELS[position]]
  local round_robin = round_robin_key(level, task_type)
  if redis.call('ZCARD', round_robin) == 0 then return false end
  local queues = read_round_robin(claimer, round_robin)
  for i = 1, #queues, 2 do
    local queue, served = queues[i], tonumber(queues[i + 1])
    if served < PARKED then
      local n = #all + 1
      all[n] = { queue = queue, served = served, round_robin = round_robin, position = position, type = task_type,
        key = lane_key(queue, level, task_type) }
      names[n] = queue
    end
  end
  return claimer.serves == '*' and #queues >= 2 * LANES_MAX and tonumber(queues[#queues]) < PARKED
end

-- The open lanes of each level, the lane that was passed over longest, and whether there are more lanes.
local function survey(claimer)
  local levels, all, names, oldest, is_cut = { {}, {}, {}, {} }, {}, {}, nil, false
  for position = 1, claimer.depth do
    is_cut = add_lanes(claimer, position, nil, all, names) or is_cut
    for _, task_type in ipairs(claimer.types) do
      is_cut = add_lanes(claimer, position, task_type, all, names) or is_cut
    end
  end
  local queue_states = read_many('HMGET', KEYS.queues, names)
  for n, lane in ipairs(all) do
    if queue_states[n] == 'paused' then
      if not claimer.is_read_only then
        redis.call('ZADD', lane.round_robin, 'XX', string.format('%.0f', PARKED), lane.queue)
      end
    else
      local lanes = levels[lane.position]
      lanes[#lanes + 1] = lane
      if claimer.ageing_ms > 0 and (not oldest or lane.served < oldest.served)
          and claimer.now_ms - math.floor(lane.served / 1000) >= claimer.ageing_ms then
        oldest = lane
      end
    end
  end
  return levels, oldest, is_cut
end

-- Take up to n tasks out of their lanes: one of a lane that was passed over past the ageing bound, then level by level.
-- Return { id, rank, priority, lane } of each as four lists, and whether there are more lanes than were looked at.
local function choose(claimer, n)
  local levels, oldest, is_cut = survey(claimer)
  local ids, ranks, priorities, lanes_of, chosen = {}, {}, {}, {}, 0
  local latest = claimer.now_ms * 1000
  for position = 1, claimer.depth do
    for _, lane in ipairs(levels[position]) do
      if lane.served > latest then latest = lane.served end
    end
  end
  local function serve(lane, quota)
    local popped = redis.pcall('ZPOPMIN', lane.key, quota)
    if popped.err then popped = {} end  -- somebody has overwritten the lane: what others gave must not be lost
    lane.is_empty = #popped < 2 * quota or redis.call('ZCARD', lane.key) == 0
    latest = latest + 1
    lane.served = latest
    if lane.is_empty then
      redis.call('ZREM', lane.round_robin, lane.queue)
    else
      lane.was_served = true
    end
    return { popped = popped, priority = LEVELS[lane.position], lane = lane }
  end
  local function append(taken, i)
    chosen = chosen + 1
    ids[chosen], ranks[chosen], priorities[chosen] = taken.popped[2 * i - 1], taken.popped[2 * i], taken.priority
    lanes_of[chosen] = taken.lane
  end
  if oldest then
    local taken = serve(oldest, 1)
    if #taken.popped > 0 then append(taken, 1) end
  end
  for position = 1, claimer.depth do
    local lanes = levels[position]
    while chosen < n and #lanes > 0 do
      if #lanes > 1 then table.sort(lanes, function(a, b) return a.served < b.served end) end
      local room, quota, rounds, longest = n - chosen, math.max(1, math.floor((n - chosen) / #lanes)), {}, 0
      for _, lane in ipairs(lanes) do
        local share = math.min(quota, room)
        if share > 0 and not lane.is_empty then
          local taken = serve(lane, share)
          rounds[#rounds + 1] = taken
          room, longest = room - #taken.popped / 2, math.max(longest, #taken.popped / 2)
        end
      end
      for i = 1, longest do
        for _, taken in ipairs(rounds) do
          if taken.popped[2 * i] then append(taken, i) end
        end
      end
      local rest = {}
      for _, lane in ipairs(lanes) do
        if not lane.is_empty then rest[#rest + 1] = lane end
      end
      lanes = rest
    end
    for _, lane in ipairs(levels[position]) do
      if lane.was_served and not lane.is_empty then
        redis.call('ZADD', lane.round_robin, string.format('%.0f', lane.served), lane.queue)
      end
    end
  end
  return ids, ranks, priorities, lanes_of, is_cut
end
