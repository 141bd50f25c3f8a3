-- set_queue_state: pause or open a queue. An opened queue enters the round robin again, and as many supervisors are
-- woken as it has tasks.
--
-- queue_state: open | paused. lanes: those of the queue, URGENT first. types: those of which a task may be set aside
-- gives OK
-- include: commands
-- include: keys
-- include: lanes
-- include: wakeup
local function rejoin(lane, round_robin)
  local size = redis.call('ZCARD', lane)
  if size == 0 then  -- it may stand at the end, where its next task would not find it
    redis.call('ZREM', round_robin, ARGV.queue)
  elseif number(redis.call('ZSCORE', round_robin, ARGV.queue) or PARKED) >= PARKED then
    redis.call('ZADD', round_robin, ARGV.now_ms .. '000', ARGV.queue)
  end
  return size
end
------------------------------------------------------------------- write
write_even_when_full(KEYS.queues)
redis.call('HSET', KEYS.queues, ARGV.queue, ARGV.queue_state)
if ARGV.queue_state == 'open' then
  local waiting = 0
  for n = 1, #KEYS.lanes do
    local level = level_of(KEYS.lanes[n].lane)
    waiting = waiting + rejoin(KEYS.lanes[n].lane, round_robin_key(level))
    for i = 1, #ARGV.types do
      local task_type = ARGV.types[i].type
      waiting = waiting + rejoin(KEYS.lanes[n].lane .. ':' .. task_type, round_robin_key(level, task_type))
    end
  end
  wake_supervisors(ARGV.queue, waiting, redis.call('ZCARD', KEYS.lanes[1].lane) > 0)
end
return 'OK'
