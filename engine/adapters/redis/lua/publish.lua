-- publish: replace what an engine tells of its processes; it vanishes if nobody does so again in time. An entry of
-- their history, if there is one, comes before the others.
--
-- keys  processes, history of the engine
-- args  ttl_ms, entry: JSON, or '' for none, entries_max, history_ttl_ms, then pid, JSON for each process
redis.call('DEL', KEYS[1])
if #ARGV > 4 then
  call_many('HSET', KEYS[1], ARGV, 5)
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
if ARGV[2] ~= '' then
  redis.call('LPUSH', KEYS[2], ARGV[2])
  redis.call('LTRIM', KEYS[2], 0, ARGV[3] - 1)
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return 'OK'
