-- Forget a supervisor that has no runs.
local function forget_supervisor()
  redis.call('ZREM', KEYS.supervisors, ARGV.supervisor)
  redis.call('HDEL', KEYS.reports, ARGV.supervisor)
  redis.call('HDEL', KEYS.idle_supervisors, ARGV.supervisor)
  redis.call('DEL', KEYS.commands, KEYS.types)
  redis.call('HDEL', KEYS.syncs, ARGV.supervisor)
end
