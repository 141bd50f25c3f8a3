-- gate: pause or open a queue. Opening it gives its lines their turns again, and wakes as many supervisors as have work
-- now.
--
-- keys  queues, idle, then the lines of the queue, URGENT first
-- args  base of the channels, queue, open | paused, now_ms, then types of which something may wait aside
-- gives OK
local queues, idle = KEYS[1], KEYS[2]
local base, queue, state, now_ms = unpack(ARGV, 1, 4)

local function give_turn(line, turns)
  local size = redis.call('ZCARD', line)
  if size > 0 and number(redis.call('ZSCORE', turns, queue) or PARKED) >= PARKED then
    redis.call('ZADD', turns, now_ms .. '000', queue)
  end
  return size
end
------------------------------------------------------------------- write
even_when_full(queues)
redis.call('HSET', queues, queue, state)
if state == 'open' then
  local waiting = 0
  for i = 3, #KEYS do
    local level = string.match(KEYS[i], '%u+$')
    waiting = waiting + give_turn(KEYS[i], base .. 'turns:' .. level)
    for at = 5, #ARGV do
      waiting = waiting + give_turn(KEYS[i] .. ':' .. ARGV[at], base .. 'turns:' .. level .. ':' .. ARGV[at])
    end
  end
  ring_bells(idle, base, queue, waiting, redis.call('ZCARD', KEYS[3]) > 0)
end
return 'OK'
