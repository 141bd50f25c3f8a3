-- maintain_queues: put lanes that have tasks into the round robin if they are not in it, forget fair-key cursors that
-- are of no use any more, and forget queues that are open, empty and unused for long. A queue was used if its cursors
-- have moved. Undeclared keys: the round robins, lanes and cursors.
--
-- has_aside: 1 if tasks may be set aside in the queue, or 0
-- gives {lanes put into the round robin, cursors forgotten, queues forgotten, key, …}: keys of cursors that are too many
--       to go through here
-- include: commands
-- include: keys
-- include: lanes
-- include: wakeup
local FIELDS_MAX, names = 64, {}
for n = 1, #ARGV.queues do names[n] = ARGV.queues[n].name end
local queue_states, noted = read_many('HMGET', KEYS.queues, names), read_many('HMGET', KEYS.unused, names)
------------------------------------------------------------------- write
local opened, cursors_forgotten, forgotten, long = 0, 0, {}, {}

local function trim(cursors)
  local size = redis.call('HLEN', cursors)
  if size <= 2 then return end
  if size > FIELDS_MAX then
    long[#long + 1] = cursors
    return
  end
  local fields, old = redis.call('HGETALL', cursors), {}
  local claimed = number(redis.call('HGET', cursors, 'v'))
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'k:' and number(fields[i + 1]) <= claimed then old[#old + 1] = fields[i] end
  end
  call_many('HDEL', cursors, old)
  cursors_forgotten = cursors_forgotten + #old
end

for n, queue in ipairs(names) do
  local waiting, ranks = tonumber(ARGV.queues[n].has_aside), {}
  for _, level in pairs(PRIORITIES) do
    local size = redis.call('ZCARD', lane_key(queue, level))
    if size > 0 and not redis.call('ZSCORE', round_robin_key(level), queue) then
      open_lane(queue, level)
      wake_supervisors(queue, size, level == 'URGENT')
      opened = opened + 1
    end
    trim(cursors_key(queue, level))
    local last = redis.call('HMGET', cursors_key(queue, level), 'v', 'k:')
    ranks[#ranks + 1] = level .. (last[1] or '') .. ',' .. (last[2] or '')
    waiting = waiting + size
  end
  table.sort(ranks)
  local seen = table.concat(ranks, ',')
  local since_ms, before = string.match(noted[n] or '', '^(%d+) (.*)$')
  if waiting > 0 or queue_states[n] ~= 'open' then
    if noted[n] then redis.call('HDEL', KEYS.unused, queue) end
  elseif before ~= seen or tonumber(since_ms) > tonumber(ARGV.now_ms) then
    redis.call('HSET', KEYS.unused, queue, ARGV.now_ms .. ' ' .. seen)
  elseif ARGV.now_ms - since_ms >= tonumber(ARGV.unused_ms) then
    forgotten[#forgotten + 1] = queue
    for _, level in pairs(PRIORITIES) do redis.call('DEL', cursors_key(queue, level)) end
  end
end
call_many('HDEL', KEYS.unused, forgotten)
call_many('HDEL', KEYS.queues, forgotten)
local answer = { opened, cursors_forgotten, #forgotten }
for _, cursors in ipairs(long) do answer[#answer + 1] = cursors end
return answer
