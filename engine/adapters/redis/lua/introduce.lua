-- introduce: a supervisor says which types it can run, and how. Said again each minute, since Redis may have forgotten
-- it.
--
-- keys  types of the supervisor, handlers, announced
-- args  now_ms, ttl_ms: how long it is believed, then for each type: its name, its announcement: JSON
-- gives how many types there are
local types, handlers, announced = unpack(KEYS)
local now_ms, ttl_ms = ARGV[1], ARGV[2]

local names, told, said = part(ARGV, 3, 2), part(ARGV, 3), {}
for n, name in ipairs(names) do said[2 * n - 1], said[2 * n] = now_ms, name end
------------------------------------------------------------------- write
redis.call('DEL', types)
if #names == 0 then return 0 end
call_many('SADD', types, names)
redis.call('PEXPIRE', types, ttl_ms)
call_many('HSET', handlers, told)
call_many('ZADD', announced, said)
return #names
