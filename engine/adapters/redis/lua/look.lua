-- look: all that is kept of some tasks, as of one moment. Writes nothing.
--
-- keys  tasks, life, outcomes, progress
-- args  1 whether records are wanted, '1' or '0'   2… ids
-- gives for each of the first tasks: record ('' where none is wanted), life line, outcome of its latest run, progress;
--       nil for what there is not. These are all of them, unless that were more bytes than one answer may have
local tasks, life, outcomes, progress = unpack(KEYS)
local wants_records, ANSWER_BYTES_MAX, SLICE_FIRST, SLICE_MAX = ARGV[1] == '1', 8388608, 8, 500
local found, bytes, size = {}, 0, 0

local function add(value)
  size = size + 1
  found[size] = value or false  -- nil would end the answer here
  if value then bytes = bytes + #value end
end

local function read(ids)
  local lines, runs, is_read = redis.call('HMGET', life, unpack(ids)), {}, {}
  for n, id in ipairs(ids) do
    local _, run = parse_life(lines[n] or '')
    runs[n], is_read[n] = id .. ':' .. (run or 0), run
  end
  local records = wants_records and redis.call('HMGET', tasks, unpack(ids)) or {}
  local ends = redis.call('HMGET', outcomes, unpack(runs))
  for n, id in ipairs(ids) do
    local line = lines[n]
    add(wants_records and records[n] or not wants_records and (line or redis.call('HEXISTS', tasks, id) == 1) and '')
    add(line)
    add(is_read[n] and ends[n])
    add(line and string.sub(line, 1, 10) ~= 'COMPLETED ' and redis.call('HGET', progress, id))
  end
end

local first, slice = 2, SLICE_FIRST
while first <= #ARGV and bytes < ANSWER_BYTES_MAX do
  local last = math.min(first + slice - 1, #ARGV)
  read({ unpack(ARGV, first, last) })
  first = last + 1
  local each = bytes / (last - 1) + 1
  slice = math.max(1, math.min(SLICE_MAX, math.floor((ANSWER_BYTES_MAX - bytes) / each)))
end
return found
