-- tidy_queues: give the lines of queues their turns if they have none, forget the last places of flows that have
-- nothing waiting, and forget queues that are open, empty and unused for long. A queue was used if its places have
-- moved.
--
-- keys  queues, unused, idle; and the turns, lines and flows
-- args  base, now_ms, unused_ms, then for each queue: name, 1 if tasks may wait aside in it or 0
-- gives {lines without a turn, places forgotten, queues forgotten, flows, …}: those too long to be gone through here
local queues, unused, idle = unpack(KEYS)
local base, now_ms, unused_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local FIELDS_MAX = 64

local names = {}
for i = 4, #ARGV, 2 do names[#names + 1] = ARGV[i] end
local states, noted = read_many('HMGET', queues, names), read_many('HMGET', unused, names)
------------------------------------------------------------------- write
local turns_given, places_forgotten, forgotten, long = 0, 0, {}, {}

local function trim(flows)
  local fields = redis.call('HLEN', flows)
  if fields <= 2 then return end
  if fields > FIELDS_MAX then
    long[#long + 1] = flows
    return
  end
  local told, old = redis.call('HGETALL', flows), {}
  local claimed = number(redis.call('HGET', flows, 'v'))
  for i = 1, #told, 2 do
    if string.sub(told[i], 1, 2) == 'k:' and number(told[i + 1]) <= claimed then old[#old + 1] = told[i] end
  end
  call_many('HDEL', flows, old)
  places_forgotten = places_forgotten + #old
end

for n, queue in ipairs(names) do
  local waiting, places = tonumber(ARGV[3 + 2 * n]), {}
  for _, level in pairs(PRIORITIES) do
    local line, flows = base .. 'line:' .. queue .. ':' .. level, base .. 'flows:' .. queue .. ':' .. level
    local size = redis.call('ZCARD', line)
    if size > 0 and not redis.call('ZSCORE', base .. 'turns:' .. level, queue) then
      open_line(base, queue, level, now_ms)
      ring_bells(idle, base, queue, size, level == 'URGENT')
      turns_given = turns_given + 1
    end
    trim(flows)
    local last = redis.call('HMGET', flows, 'v', 'k:')
    places[#places + 1] = level .. (last[1] or '') .. ',' .. (last[2] or '')
    waiting = waiting + size
  end
  table.sort(places)
  local seen = table.concat(places, ',')
  local since_ms, before = string.match(noted[n] or '', '^(%d+) (.*)$')
  if waiting > 0 or states[n] ~= 'open' then
    if noted[n] then redis.call('HDEL', unused, queue) end
  elseif before ~= seen or tonumber(since_ms) > tonumber(now_ms) then
    redis.call('HSET', unused, queue, now_ms .. ' ' .. seen)
  elseif now_ms - since_ms >= unused_ms then
    forgotten[#forgotten + 1] = queue
    for _, level in pairs(PRIORITIES) do redis.call('DEL', base .. 'flows:' .. queue .. ':' .. level) end
  end
end
call_many('HDEL', unused, forgotten)
call_many('HDEL', queues, forgotten)
local answer = { turns_given, places_forgotten, #forgotten }
for _, flows in ipairs(long) do answer[#answer + 1] = flows end
return answer
