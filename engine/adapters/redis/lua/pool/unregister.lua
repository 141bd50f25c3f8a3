-- unregister: forget a supervisor that has ended or given back all its runs.
--
-- gives OK     nothing is left of it
--       HOLDS  it still has runs; nothing is written
-- include: forget_supervisor
if redis.call('SCARD', KEYS.running) > 0 then return 'HOLDS' end
------------------------------------------------------------------- write
forget_supervisor()
return 'OK'
