-- drop_cancel_requests: forget requests to cancel a running task that are settled, unless they were made anew since.
--
-- request: as seen
-- gives how many were forgotten
-- include: commands
local over = {}
for n = 1, #ARGV.requests do
  local id = ARGV.requests[n].id
  if redis.call('HGET', KEYS.cancel_requests, id) == ARGV.requests[n].request then over[#over + 1] = id end
end
if #over == 0 then return 0 end
------------------------------------------------------------------- write
call_many('HDEL', KEYS.cancel_requests, over)
return #over
