-- Shared by all verbs: it stands before each of them, after the tables that
-- scripts.py renders from core/lifecycle.py and core/priority.py:
--   MOVES['QUEUED:claim'] = 'RUNNING', FINAL['FAILED'] = true, PRIORITIES[0] = 'LOW'
-- Whole numbers up to 1e14 survive `..`; times in ms and places stay below that.

-- status, run, attempts, crashes, priority, place, at_ms, owner: all strings; nothing if it is no life line.
local function parse_life(line)
  return string.match(line, '^(%u+) (%d+) (%d+) (%d+) (%d) (%d+) (%d+) (%S+)$')
end

local function format_life(status, run, attempts, crashes, priority, place, at_ms, owner)
  return status .. ' ' .. run .. ' ' .. attempts .. ' ' .. crashes .. ' ' .. priority .. ' ' .. place .. ' ' .. at_ms
    .. ' ' .. owner
end

-- Give each task the next place of its flow in one line (start-time fair queueing, Goyal 1996): a flow that was
-- away starts level with what was claimed last, one that submits a lot queues up behind itself.
-- fair_keys: one per task, '' for tasks without. Writes flows once.
local function give_places(flows, fair_keys)
  local fields, at = { 'v' }, {}
  for _, key in ipairs(fair_keys) do
    if not at[key] then
      fields[#fields + 1] = 'k:' .. key
      at[key] = #fields
    end
  end
  local known = redis.call('HMGET', flows, unpack(fields))
  local claimed = tonumber(known[1] or 0)
  local last, places = {}, {}
  for i = 2, #fields do last[i] = math.max(claimed, tonumber(known[i] or 0)) end
  for n, key in ipairs(fair_keys) do
    local i = at[key]
    last[i] = last[i] + 1
    places[n] = last[i]
  end
  local changed = {}
  for i = 2, #fields do
    changed[#changed + 1] = fields[i]
    changed[#changed + 1] = last[i]
  end
  redis.call('HSET', flows, unpack(changed))
  return places
end

-- A queued task leaves its line without having been claimed: its flow gets the place back.
local function leave_line(line, flows, id, fair_key)
  if redis.call('ZREM', line, id) == 0 then return end
  local last = tonumber(redis.call('HGET', flows, 'k:' .. fair_key) or 0)
  if last > 0 then redis.call('HSET', flows, 'k:' .. fair_key, last - 1) end
end

-- Wake up to `count` supervisors that sleep and serve the queue. One that does not hear is passed over: it is gone.
local function ring_bells(idle, base, queue, count)
  local sleepers = redis.call('HGETALL', idle)
  for i = 1, #sleepers, 2 do
    if count <= 0 then return end
    local name, serves = sleepers[i], sleepers[i + 1]
    if serves == '*' or string.find(serves, ',' .. queue .. ',', 1, true) then
      redis.call('HDEL', idle, name)
      if redis.call('PUBLISH', base .. 'bell:' .. name, queue) > 0 then count = count - 1 end
    end
  end
end

-- Tell the clients that wait for these tasks, one message per client, and forget that they wait.
local function tell_waiters(waiters, base, ids)
  if #ids == 0 or redis.call('EXISTS', waiters) == 0 then return end
  local waiting, heard, messages = redis.call('HMGET', waiters, unpack(ids)), {}, {}
  for i, clients in ipairs(waiting) do
    if clients then
      heard[#heard + 1] = ids[i]
      for client in string.gmatch(clients, '[^,]+') do
        messages[client] = messages[client] and messages[client] .. ',' .. ids[i] or ids[i]
      end
    end
  end
  if #heard > 0 then redis.call('HDEL', waiters, unpack(heard)) end
  for client, message in pairs(messages) do redis.call('PUBLISH', base .. 'done:' .. client, message) end
end

-- One stream entry per script call, however many rows "id STATUS run" it has.
local function add_events(events, rows)
  if #rows > 0 then redis.call('XADD', events, 'MAXLEN', '~', 10000, '*', 'e', table.concat(rows, '\n')) end
end

-- Redis at its maxmemory refuses the first write of a script that may grow, and none after a write that cannot.
-- For verbs that must go through then: they end tasks, and so make room.
local function even_when_full(hash)
  redis.call('HDEL', hash, '')
end
