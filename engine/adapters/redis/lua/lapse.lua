-- lapse: end the lease of a supervisor that is gone.
--
-- keys  supervisors
-- args  supervisor, end of its lease in ms as seen or '' for whatever it is
-- gives OK        it is over
--       MOVED_ON  it was renewed, or is no more
local supervisors = KEYS[1]
local supervisor, seen = unpack(ARGV)

local its_end = redis.call('ZSCORE', supervisors, supervisor)
if not its_end or (seen ~= '' and tonumber(its_end) ~= tonumber(seen)) then return 'MOVED_ON' end
------------------------------------------------------------------- write
redis.call('ZREM', supervisors, '')  -- then the next goes through even when Redis is full
redis.call('ZADD', supervisors, 0, supervisor)
return 'OK'
