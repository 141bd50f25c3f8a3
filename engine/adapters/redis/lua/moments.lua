-- moments: when the keeper is needed next.
--
-- keys  due, expiring, supervisors, ended COMPLETED, ended FAILED, ended CANCELLED, ended TIMEOUT
-- gives the earliest moment of each in ms, '' where there is none: due, expires, lease end, removal
local function first(key)
  return redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
end

local removal
for i = 4, 7 do
  local moment = tonumber(first(KEYS[i]) or '')
  if moment and (not removal or moment < removal) then removal = moment end
end
return { first(KEYS[1]) or '', first(KEYS[2]) or '', first(KEYS[3]) or '', removal and tostring(removal) or '' }
