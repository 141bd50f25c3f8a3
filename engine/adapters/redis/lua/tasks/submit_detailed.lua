-- submit_detailed: add tasks, of which some are delayed, expire, have a fair key or an idempotency key: all or none.
--
-- For each task: lane: the number of its lane; due_ms: 0 for now; expires_ms: 0 for never; idempotency_key: the number
-- of its key, 0 for none.
-- gives {OK, n, id, n, id …}  they are added; task n stands for an earlier one, whose id follows
--       {EXISTS}              another task has one of the ids; nothing is written
-- include: commands
-- include: keys
-- include: state
-- include: ranks
-- include: lanes
-- include: wakeup
-- include: events
local now, new, answer, keys_now = tonumber(ARGV.now_ms), {}, { 'OK' }, {}
for n = 1, #ARGV.tasks do
  local id, record, key = ARGV.tasks[n].id, ARGV.tasks[n].record, tonumber(ARGV.tasks[n].idempotency_key)
  local known = redis.call('HGET', KEYS.tasks, id)
  if known and known ~= record then return { 'EXISTS' } end
  local name = key > 0 and KEYS.idempotency_keys[key].key
  local earlier = name and (keys_now[name] or redis.call('GET', name))
  if earlier and (keys_now[name] or earlier == id or redis.call('HEXISTS', KEYS.tasks, earlier) == 1) then
    answer[#answer + 1] = n
    answer[#answer + 1] = earlier
  elseif not known then
    if name then keys_now[name] = id end
    new[#new + 1] = n
  end
end
if #new == 0 then return answer end
------------------------------------------------------------------- write
local queued, rows, soonest = {}, {}, math.huge
for n = 1, #ARGV.lanes do queued[n] = { ids = {}, fair_keys = {} } end
for _, n in ipairs(new) do
  local id, lane = ARGV.tasks[n].id, queued[tonumber(ARGV.tasks[n].lane)]
  local due_ms, expires_ms = tonumber(ARGV.tasks[n].due_ms), ARGV.tasks[n].expires_ms
  redis.call('HSET', KEYS.tasks, id, ARGV.tasks[n].record)
  if due_ms > now then
    move_task(id, format_state('PENDING', 0, 0, 0, ARGV.tasks[n].priority, 0, ARGV.now_ms, '-'))
    redis.call('ZADD', KEYS.due, due_ms, id)
    rows[#rows + 1] = id .. ' PENDING 0'
    soonest = math.min(soonest, due_ms)
  else
    lane.ids[#lane.ids + 1] = id
    lane.fair_keys[#lane.fair_keys + 1] = ARGV.tasks[n].fair_key
    rows[#rows + 1] = id .. ' QUEUED 0'
  end
  if expires_ms ~= '0' then
    redis.call('ZADD', KEYS.expiring, expires_ms, id)
    soonest = math.min(soonest, expires_ms)
  end
end
for name, id in pairs(keys_now) do redis.call('SET', name, id, 'PX', ARGV.idempotency_ms) end
for n = 1, #ARGV.lanes do
  local ids, ranked = queued[n].ids, {}
  redis.call('HSETNX', KEYS.queues, ARGV.lanes[n].queue, 'open')
  if #ids > 0 then
    for i, rank in ipairs(give_ranks(KEYS.lanes[n].cursors, queued[n].fair_keys)) do
      ranked[2 * i - 1], ranked[2 * i] = rank, ids[i]
    end
    call_many('ZADD', KEYS.lanes[n].lane, ranked)
    open_lane(ARGV.lanes[n].queue, level_of(KEYS.lanes[n].lane))
  end
end
count_up(KEYS.counters, 'submitted', #new)
add_events(rows)
for n = 1, #ARGV.lanes do
  wake_supervisors(ARGV.lanes[n].queue, #queued[n].ids, is_urgent_lane(KEYS.lanes[n].lane))
end
if soonest < math.huge then wake_keeper(soonest) end
return answer
