-- farewell: a supervisor that has ended or given back all its runs leaves.
--
-- keys  held of the supervisor, supervisors, reports, idle, orders of the supervisor, recovers, types of the supervisor
-- args  supervisor
-- gives OK     nothing is left of it
--       HOLDS  it still has runs; nothing is written
local held, supervisors, reports, idle, orders, recovers, types = unpack(KEYS)
local supervisor = ARGV[1]

if redis.call('SCARD', held) > 0 then return 'HOLDS' end
------------------------------------------------------------------- write
redis.call('ZREM', supervisors, supervisor)
redis.call('HDEL', reports, supervisor)
redis.call('HDEL', idle, supervisor)
redis.call('DEL', orders, types)
redis.call('HDEL', recovers, supervisor)
return 'OK'
