-- get_tasks: all that is kept of some tasks, as of one moment. Writes nothing.
--
-- wants_records: '1' or '0'
-- gives for each task: record ('' if none is wanted), state, outcome of its latest run, progress; nil for what there is
--       not. If all tasks were more bytes than one answer may have, it gives the first of them only
-- include: commands
-- include: state
local wants_records, ANSWER_BYTES_MAX, SLICE_FIRST, SLICE_MAX = ARGV.wants_records == '1', 8388608, 8, 500
local ids, found, bytes, size = {}, {}, 0, 0
for n = 1, #ARGV.ids do ids[n] = ARGV.ids[n].id end

local function add(value)
  size = size + 1
  found[size] = value or false  -- nil would end the answer here
  if value then bytes = bytes + #value end
end

local function read(first, last)
  local states, runs, is_read = read_many('HMGET', KEYS.states, ids, first, last), {}, {}
  for n, state in ipairs(states) do
    local _, run = parse_state(state or '')
    runs[n], is_read[n] = ids[first + n - 1] .. ':' .. (run or 0), run
  end
  local records = wants_records and read_many('HMGET', KEYS.tasks, ids, first, last) or {}
  local outcomes = read_many('HMGET', KEYS.outcomes, runs)
  for n, state in ipairs(states) do
    local id = ids[first + n - 1]
    add(wants_records and records[n]
      or not wants_records and (state or redis.call('HEXISTS', KEYS.tasks, id) == 1) and '')
    add(state)
    add(is_read[n] and outcomes[n])
    add(state and string.sub(state, 1, 10) ~= 'COMPLETED ' and redis.call('HGET', KEYS.progress, id))
  end
end

local first, slice = 1, SLICE_FIRST
while first <= #ids and bytes < ANSWER_BYTES_MAX do
  local last = math.min(first + slice - 1, #ids)
  read(first, last)
  first = last + 1
  local each = bytes / last + 1
  slice = math.max(1, math.min(SLICE_MAX, math.floor((ANSWER_BYTES_MAX - bytes) / each)))
end
return found
