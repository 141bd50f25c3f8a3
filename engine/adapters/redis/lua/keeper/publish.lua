-- publish: replace what an engine tells of its processes; it vanishes if nobody does so again in time. An entry of
-- their history, if there is one, comes before the others.
--
-- entry: JSON, or '' for none. sample: JSON
-- gives OK
-- include: commands
------------------------------------------------------------------- write
redis.call('DEL', KEYS.processes)
if #ARGV.processes > 0 then
  call_many('HSET', KEYS.processes, ARGV, FIRST.processes)
  redis.call('PEXPIRE', KEYS.processes, ARGV.ttl_ms)
end
if ARGV.entry ~= '' then
  redis.call('LPUSH', KEYS.history, ARGV.entry)
  redis.call('LTRIM', KEYS.history, 0, ARGV.entries_max - 1)
  redis.call('PEXPIRE', KEYS.history, ARGV.history_ttl_ms)
end
return 'OK'
