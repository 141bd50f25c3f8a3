-- submit_detailed: take in tasks of which some are delayed, expire, share a line fairly, or have an idempotency key.
-- All or none.
--
-- keys  tasks, life, queues, due, expiring, idle, events, counters, then for each line: line, flows, queue by queue;
--       then the idempotency keys
-- args  now_ms, base of the channels, idempotency_ms, number of lines,
--       for each line: queue
--       for each task: id, record, number of its line, priority, fair_key, due_ms (0: now), expires_ms (0: never),
--                      number of its idempotency key (0: none)
-- gives {OK, n, id, n, id …}  they are in; task n stands for an earlier one, whose id follows
--       {EXISTS}              another task has one of the ids; nothing is written
local tasks, life, queues, due, expiring, idle, events, counters = unpack(KEYS, 1, 8)
local now_ms, base, idempotency_ms, line_count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = tonumber(now_ms)

local new, answer, claimed_now = {}, { 'OK' }, {}
local n = 0
for i = 5 + line_count, #ARGV, 8 do
  n = n + 1
  local id, record, key = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 7])
  local known = redis.call('HGET', tasks, id)
  if known and known ~= record then return { 'EXISTS' } end
  local name = key > 0 and KEYS[8 + 2 * line_count + key]
  local earlier = name and (claimed_now[name] or redis.call('GET', name))
  if earlier and (claimed_now[name] or earlier == id or redis.call('HEXISTS', tasks, earlier) == 1) then
    answer[#answer + 1] = n
    answer[#answer + 1] = earlier
  elseif not known then
    if name then claimed_now[name] = id end
    new[#new + 1] = i
  end
end
if #new == 0 then return answer end
------------------------------------------------------------------- write
local queued, rows, soonest = {}, {}, math.huge
for line = 1, line_count do queued[line] = { ids = {}, fair_keys = {} } end
for _, i in ipairs(new) do
  local id, line, due_ms, expires_ms = ARGV[i], queued[tonumber(ARGV[i + 2])], tonumber(ARGV[i + 5]), ARGV[i + 6]
  redis.call('HSET', tasks, id, ARGV[i + 1])
  if due_ms > now then
    redis.call('HSET', life, id, format_life('PENDING', 0, 0, 0, ARGV[i + 3], 0, now_ms, '-'))
    redis.call('ZADD', due, due_ms, id)
    rows[#rows + 1] = id .. ' PENDING 0'
    soonest = math.min(soonest, due_ms)
  else
    line.ids[#line.ids + 1] = id
    line.fair_keys[#line.fair_keys + 1] = ARGV[i + 4]
    rows[#rows + 1] = id .. ' QUEUED 0'
  end
  if expires_ms ~= '0' then
    redis.call('ZADD', expiring, expires_ms, id)
    soonest = math.min(soonest, expires_ms)
  end
end
for name, id in pairs(claimed_now) do redis.call('SET', name, id, 'PX', idempotency_ms) end
for line = 1, line_count do
  local ids, placed = queued[line].ids, {}
  redis.call('HSETNX', queues, ARGV[4 + line], 'open')
  if #ids > 0 then
    for at, place in ipairs(give_places(KEYS[8 + 2 * line], queued[line].fair_keys)) do
      placed[2 * at - 1], placed[2 * at] = place, ids[at]
    end
    call_many('ZADD', KEYS[7 + 2 * line], placed)
    open_line(base, ARGV[4 + line], string.match(KEYS[7 + 2 * line], '%u+$'), now_ms)
  end
end
count_up(counters, 'submitted', #new)
add_events(events, rows)
for line = 1, line_count do
  ring_bells(idle, base, ARGV[4 + line], #queued[line].ids, is_urgent_line(KEYS[7 + 2 * line]))
end
if soonest < math.huge then redis.call('PUBLISH', base .. 'bell:keeper', string.format('%d', soonest)) end
return answer
