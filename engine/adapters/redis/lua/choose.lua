-- choose: a part of step. Which of the waiting tasks come next: strictly by level, and in a level by turns over the
-- lines.
-- Only lines that have their turn are looked at, so this costs the same however many queues there are.
--
-- claimer: { now_ms, base, serves, names: of the queues in serves, ageing_ms, queues, aside, types: their keys,
--            depth: levels, kinds: types that it looks after aside, only_looks: nothing is to be written }
local LEVELS = { 3, 2, 1, 0 }
local LINES_MAX = 64  -- of one kind and level in one survey
local KINDS_MAX = 8  -- types that are looked after aside in one step
local KINDS_ASKED_MAX = 1000  -- types that are asked whether any task of them waits

-- The types of which tasks wait aside that this supervisor can run. If those are many, others come with the next ms. A
-- type of which no line has its turn is forgotten. Else a few old types could hide one that has tasks.
local function kinds_aside(claimer)
  if redis.call('EXISTS', claimer.aside) == 0 then return {} end
  local kinds, turns = redis.call('SINTER', claimer.aside, claimer.types), claimer.base .. 'turns:'
  local found, over, first = {}, {}, #kinds > KINDS_MAX and tonumber(claimer.now_ms) % #kinds or 0
  for n = 1, math.min(#kinds, KINDS_ASKED_MAX) do
    local kind = kinds[(first + n - 1) % #kinds + 1]
    local is_waiting = redis.call('EXISTS', turns .. 'LOW:' .. kind, turns .. 'NORMAL:' .. kind,
      turns .. 'HIGH:' .. kind, turns .. 'URGENT:' .. kind) > 0
    if is_waiting and #found == KINDS_MAX then
      claimer.has_more_kinds = true
      break
    end
    local list = is_waiting and found or over
    list[#list + 1] = kind
  end
  if not claimer.only_looks then call_many('SREM', claimer.aside, over) end
  return found
end

-- The queues that have their turn, and when they were served last, flat: all of them, or those that it serves.
local function in_turn(claimer, turns)
  if claimer.serves == '*' then return redis.call('ZRANGE', turns, 0, LINES_MAX - 1, 'WITHSCORES') end
  local found, scores = {}, read_many('ZMSCORE', turns, claimer.names)
  for n, name in ipairs(claimer.names) do
    if scores[n] then found[#found + 1], found[#found + 2] = name, scores[n] end
  end
  return found
end

-- Add the lines of one kind and level that have their turn to `all`; says whether there are more of them.
local function add_lines(claimer, position, kind, all, names)
  local level = PRIORITIES[LEVELS[position]]
  local ending = kind and level .. ':' .. kind or level
  local turns = claimer.base .. 'turns:' .. ending
  if redis.call('ZCARD', turns) == 0 then return false end
  local told = in_turn(claimer, turns)
  for i = 1, #told, 2 do
    local queue, turn = told[i], tonumber(told[i + 1])
    if turn < PARKED then
      local n = #all + 1
      all[n] = { queue = queue, turn = turn, turns = turns, position = position, kind = kind,
        key = claimer.base .. 'line:' .. queue .. ':' .. ending }
      names[n] = queue
    end
  end
  return claimer.serves == '*' and #told >= 2 * LINES_MAX and tonumber(told[#told]) < PARKED
end

-- The open lines of each level that have their turn, the one that was passed over longest, and whether there are more.
local function survey(claimer)
  local levels, all, names, oldest, is_cut = { {}, {}, {}, {} }, {}, {}, nil, false
  for position = 1, claimer.depth do
    is_cut = add_lines(claimer, position, nil, all, names) or is_cut
    for _, kind in ipairs(claimer.kinds) do is_cut = add_lines(claimer, position, kind, all, names) or is_cut end
  end
  local states = read_many('HMGET', claimer.queues, names)
  for n, line in ipairs(all) do
    if states[n] == 'paused' then
      if not claimer.only_looks then redis.call('ZADD', line.turns, 'XX', string.format('%.0f', PARKED), line.queue) end
    else
      local lines = levels[line.position]
      lines[#lines + 1] = line
      if claimer.ageing_ms > 0 and (not oldest or line.turn < oldest.turn)
          and claimer.now_ms - math.floor(line.turn / 1000) >= claimer.ageing_ms then
        oldest = line
      end
    end
  end
  return levels, oldest, is_cut
end

-- Take up to n tasks out of their lines: one of a line that has waited past the ageing bound, then level by level.
-- Gives { id, place, priority, line } of each as four lists, and whether more lines have their turn than were looked
-- at.
local function choose(claimer, n)
  local levels, oldest, is_cut = survey(claimer)
  local ids, places, priorities, lines_of, chosen = {}, {}, {}, {}, 0
  local latest = tonumber(claimer.now_ms) * 1000
  for position = 1, claimer.depth do
    for _, line in ipairs(levels[position]) do
      if line.turn > latest then latest = line.turn end
    end
  end
  local function serve(line, quota)
    local popped = redis.pcall('ZPOPMIN', line.key, quota)
    if popped.err then popped = {} end  -- somebody has written over the line: what was taken from others is not to be lost
    line.is_over = #popped < 2 * quota or redis.call('ZCARD', line.key) == 0
    latest = latest + 1
    line.turn = latest
    if line.is_over then
      redis.call('ZREM', line.turns, line.queue)
    else
      line.is_served = true
    end
    return { popped = popped, priority = LEVELS[line.position], line = line }
  end
  local function append(taken, i)
    chosen = chosen + 1
    ids[chosen], places[chosen], priorities[chosen] = taken.popped[2 * i - 1], taken.popped[2 * i], taken.priority
    lines_of[chosen] = taken.line
  end
  if oldest then
    local taken = serve(oldest, 1)
    if #taken.popped > 0 then append(taken, 1) end
  end
  for position = 1, claimer.depth do
    local lines = levels[position]
    while chosen < n and #lines > 0 do
      if #lines > 1 then table.sort(lines, function(a, b) return a.turn < b.turn end) end
      local room, quota, rounds, longest = n - chosen, math.max(1, math.floor((n - chosen) / #lines)), {}, 0
      for _, line in ipairs(lines) do
        local share = math.min(quota, room)
        if share > 0 and not line.is_over then
          local taken = serve(line, share)
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
      for _, line in ipairs(lines) do
        if not line.is_over then rest[#rest + 1] = line end
      end
      lines = rest
    end
    for _, line in ipairs(levels[position]) do
      if line.is_served and not line.is_over then
        redis.call('ZADD', line.turns, string.format('%.0f', line.turn), line.queue)
      end
    end
  end
  return ids, places, priorities, lines_of, is_cut
end
