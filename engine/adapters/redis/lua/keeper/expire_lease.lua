-- expire_lease: end the lease of a supervisor that is gone.
--
-- seen_ms: end of its lease as seen, '' for whatever it is
-- gives OK        it is over
--       MOVED_ON  it was renewed or given up
local end_ms = redis.call('ZSCORE', KEYS.supervisors, ARGV.supervisor)
if not end_ms or (ARGV.seen_ms ~= '' and tonumber(end_ms) ~= tonumber(ARGV.seen_ms)) then return 'MOVED_ON' end
------------------------------------------------------------------- write
redis.call('ZREM', KEYS.supervisors, '')  -- then the next write goes through even if Redis is full
redis.call('ZADD', KEYS.supervisors, 0, ARGV.supervisor)
return 'OK'
