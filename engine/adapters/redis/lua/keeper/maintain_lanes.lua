-- maintain_lanes: put lanes that have tasks into the round robin if they are not in it, and take empty ones out.
-- Undeclared keys: the round robins and lanes.
--
-- type: of a lane aside, else ''
-- gives how many lanes were put into the round robin
-- include: commands
-- include: keys
-- include: lanes
-- include: wakeup
------------------------------------------------------------------- write
local opened = 0
for n = 1, #ARGV.lanes do
  local queue, level, task_type = ARGV.lanes[n].queue, ARGV.lanes[n].level, ARGV.lanes[n].type
  if task_type == '' then task_type = nil end
  local round_robin, size = round_robin_key(level, task_type), redis.call('ZCARD', lane_key(queue, level, task_type))
  if size == 0 then
    redis.call('ZREM', round_robin, queue)
    if task_type and redis.call('EXISTS', round_robin_key('LOW', task_type), round_robin_key('NORMAL', task_type),
        round_robin_key('HIGH', task_type), round_robin_key('URGENT', task_type)) == 0 then
      redis.call('SREM', KEYS.types_aside, task_type)
    end
  else
    redis.call('HSETNX', KEYS.queues, queue, 'open')
    if task_type then redis.call('SADD', KEYS.types_aside, task_type) end
    local served = redis.call('ZSCORE', round_robin, queue)
    if not served or tonumber(served) >= PARKED and redis.call('HGET', KEYS.queues, queue) ~= 'paused' then
      redis.call('ZADD', round_robin, ARGV.now_ms .. '000', queue)
      wake_supervisors(queue, size, level == 'URGENT', nil, task_type)
      opened = opened + 1
    end
  end
end
return opened
