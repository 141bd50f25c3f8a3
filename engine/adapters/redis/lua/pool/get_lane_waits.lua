-- get_lane_waits: how long the first tasks have waited in the lanes that a supervisor may serve. If there are many
-- lanes, those are looked at that were passed over longest. Writes nothing.
--
-- serves: '*' or ',queue,queue,'
-- gives {id, at_ms, …} for each lane of an open queue that has a task: when it came into the lane, '' for since its
--       submit
-- include: commands
-- include: keys
-- include: state
-- include: lanes
-- include: choose
local claimer = new_claimer({ ageing_ms = 0, depth = 4, is_read_only = true })
local levels, found = survey(claimer), {}
for _, lanes in ipairs(levels) do
  for _, lane in ipairs(lanes) do
    local id = redis.call('ZRANGE', lane.key, 0, 0)[1]
    if id then
      local at_ms = select(7, parse_state(redis.call('HGET', KEYS.states, id) or ''))
      found[#found + 1], found[#found + 2] = id, at_ms or ''
    end
  end
end
return found
