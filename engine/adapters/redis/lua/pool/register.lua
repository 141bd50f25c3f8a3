-- register: a supervisor says which types it can run, and how. It says so each minute, since Redis may have lost it.
--
-- ttl_ms: how long it is believed. announcement: JSON
-- gives how many types there are
-- include: commands
local names, announcements, moments = {}, {}, {}
for n = 1, #ARGV.handlers do
  local name = ARGV.handlers[n].name
  names[n] = name
  announcements[2 * n - 1], announcements[2 * n] = name, ARGV.handlers[n].announcement
  moments[2 * n - 1], moments[2 * n] = ARGV.now_ms, name
end
------------------------------------------------------------------- write
redis.call('DEL', KEYS.types)
if #names == 0 then return 0 end
call_many('SADD', KEYS.types, names)
redis.call('PEXPIRE', KEYS.types, ARGV.ttl_ms)
call_many('HSET', KEYS.handlers, announcements)
call_many('ZADD', KEYS.announced, moments)
return #names
