-- Renew the lease of a supervisor and keep its report.
local function renew()
  write_even_when_full(KEYS.states)
  redis.call('ZADD', KEYS.supervisors, ARGV.lease_end_ms, ARGV.supervisor)
  if ARGV.report ~= '' then redis.call('HSET', KEYS.reports, ARGV.supervisor, ARGV.report) end
end
