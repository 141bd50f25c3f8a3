-- publish: replace what a host tells of its processes; it vanishes if nobody does so again in time.
--
-- keys  processes of the host
-- args  ttl_ms, then pid, JSON for each process
redis.call('DEL', KEYS[1])
if #ARGV > 1 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 2))
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 'OK'
