-- Which of the chosen tasks this supervisor may start. Those that it may not start leave the batch, and nothing is
-- charged to them.
--
-- A task whose type the supervisor does not know is set aside, at its rank, in the lane of its type. So it is met once,
-- and then no other task waits behind it.

local SWEEP = 200  -- tasks of a lane that are looked at once a task of an unknown type was met in it
local CLAIM_BYTES_MAX = 8388608  -- of the records in one answer

-- The records of the first of these tasks: all, or as many as one answer may have, with so many bytes before them.
-- Redis drops a subscriber to whom it owes 32 MB; so a slice stays well below that even if each payload in it is as
-- large as it may be. Return the records and how many bytes there are now.
local function read_records(ids, bytes)
  local records, first, slice = {}, 1, tonumber(ARGV.slice)
  while first <= #ids and bytes < CLAIM_BYTES_MAX do
    for i, record in ipairs(read_many('HMGET', KEYS.tasks, ids, first, math.min(first + slice - 1, #ids))) do
      records[first + i - 1] = record
      bytes = bytes + (record and #record or 0)
    end
    first = first + slice
  end
  return records, bytes
end

-- The type of a record if the supervisor does not know it, else false. A record that cannot be read is admitted: the
-- supervisor lets the task fail.
local types_by_head = {}
local function unknown_type(record)
  local head = string.match(record, '^%["[^"\\]*"') or string.match(record, '^[^\n]*')
  local task_type = types_by_head[head]
  if task_type == nil then
    task_type = type_of(head) or type_of(record) or false
    if task_type and redis.call('SISMEMBER', KEYS.types, task_type) == 1 then task_type = false end
    types_by_head[head] = task_type
  end
  return task_type
end

-- Tasks of unknown types on their way aside: lane key -> { lane, by_type: type -> rank, id, … }
local strangers = {}
local function note_stranger(record, lane, rank, id)
  local task_type = record and unknown_type(record)
  if not task_type then return false end
  strangers[lane.key] = strangers[lane.key] or { lane = lane, by_type = {} }
  local ranked = strangers[lane.key].by_type[task_type] or {}
  ranked[#ranked + 1], ranked[#ranked + 2] = rank, id
  strangers[lane.key].by_type[task_type] = ranked
  return true
end

-- Set the strangers aside, with those that follow them in their lanes, and wake supervisors that know their types.
local function set_strangers_aside()
  for _, found in pairs(strangers) do
    local lane = found.lane
    if not lane.type then
      local next_ones, ids, ranks, moved = redis.call('ZRANGE', lane.key, 0, SWEEP - 1, 'WITHSCORES'), {}, {}, {}
      for i = 1, #next_ones, 2 do ids[#ids + 1], ranks[#ranks + 1] = next_ones[i], next_ones[i + 1] end
      for i, record in ipairs((read_records(ids, 0))) do
        if note_stranger(record, lane, ranks[i], ids[i]) then moved[#moved + 1] = ids[i] end
      end
      call_many('ZREM', lane.key, moved)
      if redis.call('ZCARD', lane.key) == 0 then redis.call('ZREM', lane.round_robin, lane.queue) end
    end
    local level = PRIORITIES[LEVELS[lane.position]]
    for task_type, ranked in pairs(found.by_type) do
      set_aside(lane.queue, level, task_type, ranked)
      wake_supervisors(lane.queue, #ranked / 2, level == 'URGENT', nil, task_type)
    end
  end
  strangers = {}
end

-- Called for each batch of tasks that were chosen and have left their lanes, before they are started. Those that are
-- not admitted are taken out of the lists of the batch; return how many.
-- chosen: { ids, records, ranks, priorities, lanes }: lists of the same length
local function admit(chosen)
  local ids, records, ranks, priorities, lanes = chosen.ids, chosen.records, chosen.ranks, chosen.priorities, chosen.lanes
  local sub, head, length = string.sub, nil, 0  -- of the record before: tasks that wait together mostly are of one type
  local refused = 0
  for i = 1, #records do
    local record = records[i]
    local is_known = record and sub(record, 1, length) == head
    if not is_known then
      is_known = not note_stranger(record, lanes[i], ranks[i], ids[i])
      if not is_known then
        refused = refused + 1
      elseif record then
        head = string.match(record, '^%["[^"\\]*"')
        length = head and #head or 0
      end
    end
    if is_known and refused > 0 then
      local to = i - refused
      ids[to], records[to], ranks[to], priorities[to], lanes[to] = ids[i], record, ranks[i], priorities[i], lanes[i]
    end
  end
  for i = #records, #records - refused + 1, -1 do ids[i] = nil end
  if refused > 0 then set_strangers_aside() end
  return refused
end
