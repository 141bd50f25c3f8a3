-- gate: pause or open a queue. Opening it wakes as many supervisors as have work now.
--
-- keys  queues, idle, then the lines of the queue, URGENT first
-- args  base of the channels, queue, open | paused
-- gives OK
local queues, idle = KEYS[1], KEYS[2]
local base, queue, state = unpack(ARGV)
------------------------------------------------------------------- write
even_when_full(queues)
redis.call('HSET', queues, queue, state)
if state == 'open' then
  local waiting = 0
  for i = 3, #KEYS do waiting = waiting + redis.call('ZCARD', KEYS[i]) end
  ring_bells(idle, base, queue, waiting, redis.call('ZCARD', KEYS[3]) > 0)
end
return 'OK'
