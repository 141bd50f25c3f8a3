-- Add rows to the stream of events: one entry for each script call. A row is `id STATUS run`, or for several tasks
-- `prefix*tail,tail,… STATUS run` (core/task/event.py reads both).
local function add_events(rows)
  if #rows > 0 then redis.call('XADD', KEYS.events, 'MAXLEN', '~', 10000, '*', 'e', table.concat(rows, '\n')) end
end
