-- forgo: forget wishes to have tasks cancelled that need no keeper any more, unless somebody has wished anew meanwhile.
--
-- keys  cancels
-- args  for each: id, wish as seen
-- gives how many were forgotten
local cancels = KEYS[1]

local over = {}
for i = 1, #ARGV, 2 do
  if redis.call('HGET', cancels, ARGV[i]) == ARGV[i + 1] then over[#over + 1] = ARGV[i] end
end
if #over == 0 then return 0 end
------------------------------------------------------------------- write
call_many('HDEL', cancels, over)
return #over
