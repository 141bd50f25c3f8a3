-- waits: since when the first task of each line waits.
--
-- keys  life, queues, then the lines
-- args  for each line: its queue
-- gives {id, at_ms, …} of each line of an open queue that has a task: when it came into the line, '' for since its submit
local life, queues = KEYS[1], KEYS[2]
local found = {}
for n, queue in ipairs(ARGV) do
  local id = redis.call('ZRANGE', KEYS[2 + n], 0, 0)[1]
  if id and redis.call('HGET', queues, queue) ~= 'paused' then
    local at_ms = select(7, parse_life(redis.call('HGET', life, id) or ''))
    found[#found + 1], found[#found + 2] = id, at_ms or ''
  end
end
return found
