-- waits: for how long the tasks have waited that stand first in the lines that a supervisor may serve. Of many lines,
-- those that were passed over longest are looked at.
--
-- keys  life, queues, aside, types of the supervisor; and the turns and lines
-- args  base, serves: '*' or ',queue,queue,', now_ms
-- gives {id, at_ms, …} of each line of an open queue that has a task: when it came into the line, '' for since its
-- submit
local life, queues, aside, types = unpack(KEYS)
local base, serves, now_ms = unpack(ARGV)

local names = {}
if serves ~= '*' then
  for name in string.gmatch(serves, '[^,]+') do names[#names + 1] = name end
end
local claimer = { now_ms = now_ms, base = base, serves = serves, names = names, ageing_ms = 0, queues = queues,
  aside = aside, types = types, depth = 4, only_looks = true }
claimer.kinds = kinds_aside(claimer)
local levels, found = survey(claimer), {}
for _, lines in ipairs(levels) do
  for _, line in ipairs(lines) do
    local id = redis.call('ZRANGE', line.key, 0, 0)[1]
    if id then
      local at_ms = select(7, parse_life(redis.call('HGET', life, id) or ''))
      found[#found + 1], found[#found + 2] = id, at_ms or ''
    end
  end
end
return found
