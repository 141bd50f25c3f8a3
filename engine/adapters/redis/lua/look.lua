-- look: all that is kept of some tasks, as of one moment. Writes nothing.
--
-- keys  tasks, life, outcomes, progress
-- args  ids
-- gives for each task: record, life line, outcome of its latest run, progress; nil for what there is not
local tasks, life, outcomes, progress = unpack(KEYS)
local records, lines = redis.call('HMGET', tasks, unpack(ARGV)), redis.call('HMGET', life, unpack(ARGV))
local found = {}
for n, id in ipairs(ARGV) do
  local outcome, told = false, false
  if lines[n] then
    local _, run = parse_life(lines[n])
    outcome, told = redis.call('HGET', outcomes, id .. ':' .. (run or 0)), redis.call('HGET', progress, id)
  end
  found[4 * n - 3], found[4 * n - 2], found[4 * n - 1], found[4 * n] = records[n], lines[n], outcome, told
end
return found
