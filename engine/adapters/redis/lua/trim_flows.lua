-- trim_flows: forget the last places of flows that have nothing waiting: they would start level with the others anyway.
--
-- keys  flows
-- args  fields "k:<fair key>"
-- gives how many were forgotten
local claimed = number(redis.call('HGET', KEYS[1], 'v'))
local old = {}
for n, last in ipairs(read_many('HMGET', KEYS[1], ARGV)) do
  if last and number(last) <= claimed then old[#old + 1] = ARGV[n] end
end
------------------------------------------------------------------- write
call_many('HDEL', KEYS[1], old)
return #old
