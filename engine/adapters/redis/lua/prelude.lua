-- Shared by all verbs: it stands before each of them, after the tables that
-- scripts.py renders from core/task/lifecycle.py and core/task/priority.py:
--   MOVES['QUEUED:claim'] = 'RUNNING', FINAL['FAILED'] = true, PRIORITIES[0] = 'LOW'
-- Whole numbers up to 1e14 survive `..`; times in ms and places stay below that.
--
-- Where queued tasks are: a *line* for each queue and priority, by place. A task that a supervisor met in its line
-- without knowing the type waits aside, at the same place, in the line of that queue, priority and type:
--   line:<queue>:<PRIORITY>          line:<queue>:<PRIORITY>:<type>
-- A line that may have tasks is among the turns of its kind, by the moment at which it was served last, in
-- microseconds; lines of paused queues stand at the end, at PARKED. A script that finds a line empty takes it out.
--   turns:<PRIORITY>  queue -> µs    turns:<PRIORITY>:<type>  queue -> µs
--   aside: the types that have turns of their own
-- All these keys have the hash tag of `base`, so a script may build them.

local PARKED = 9e17  -- past any moment in µs, of clocks that are millennia ahead too
local CHUNK = 4000  -- of one call; Lua's unpack ends at some 8,000. Even, for lists of pairs

-- A command with a key and a list of any length, in as many calls as that takes.
local function call_many(command, key, list, first)
  first = first or 1
  while #list - first >= CHUNK do
    redis.call(command, key, unpack(list, first, first + CHUNK - 1))
    first = first + CHUNK
  end
  if first <= #list then redis.call(command, key, unpack(list, first)) end
end

-- The same of a command that answers each entry of the list.
local function read_many(command, key, list)
  if #list <= CHUNK then return #list > 0 and redis.call(command, key, unpack(list)) or {} end
  local answers = {}
  for first = 1, #list, CHUNK do
    local told = redis.call(command, key, unpack(list, first, math.min(first + CHUNK - 1, #list)))
    for n, answer in ipairs(told) do answers[first + n - 1] = answer end
  end
  return answers
end

-- A range of a list, as a list.
local function part(list, first, step)
  local found = {}
  for i = first, #list, step or 1 do found[#found + 1] = list[i] end
  return found
end

-- status, run, attempts, crashes, priority, place, at_ms, owner: all strings; nothing if it is no life line. Numbers
-- that are too long for it (core/task/state.py) were written by somebody else.
local function parse_life(line)
  local status, run, attempts, crashes, priority, place, at_ms, owner =
    string.match(line, '^(%u+) (%d+) (%d+) (%d+) ([0-3]) (%d+) (%d+) (%S+)$')
  if not status or #run > 9 or #attempts > 9 or #crashes > 9 or #place > 14 or #at_ms > 14 then return end
  return status, run, attempts, crashes, priority, place, at_ms, owner
end

-- A number that is stored, or 0 for none and for what somebody has written in its place.
local function number(text)
  return tonumber(text or 0) or 0
end

-- Count what has happened. A counter that is none any more, by somebody's hand, must not stop the engine.
local function count_up(counters, what, n)
  redis.pcall('HINCRBY', counters, what, n)
end

local function format_life(status, run, attempts, crashes, priority, place, at_ms, owner)
  return status .. ' ' .. run .. ' ' .. attempts .. ' ' .. crashes .. ' ' .. priority .. ' ' .. place .. ' ' .. at_ms
    .. ' ' .. owner
end

-- Places in one line, by start-time fair queueing (Goyal 1996): each flow of tasks counts on from its own last place,
-- or from what was claimed last where that is further. So a flow that was away starts level with the others, and one
-- that submits a lot queues up behind itself.

-- The place after which the next of a flow goes. fair_key is '' for tasks without.
local function last_place(flows, fair_key)
  local known = redis.call('HMGET', flows, 'v', 'k:' .. fair_key)
  return math.max(number(known[1]), number(known[2]))
end

-- The next `count` places of one flow; returns the one before them.
local function reserve_places(flows, fair_key, count)
  local before = last_place(flows, fair_key)
  redis.call('HSET', flows, 'k:' .. fair_key, before + count)
  return before
end

-- One place for each task of several flows: fair_keys has one entry per task.
local function give_places(flows, fair_keys)
  local counts, places = {}, {}
  for _, key in ipairs(fair_keys) do counts[key] = (counts[key] or 0) + 1 end
  for key, count in pairs(counts) do counts[key] = reserve_places(flows, key, count) end
  for n, key in ipairs(fair_keys) do
    counts[key] = counts[key] + 1
    places[n] = counts[key]
  end
  return places
end

-- The type that a record names in its first line; nil where that cannot be read.
local function type_of(record)
  local plain = string.match(record, '^%["([^"\\]*)"')
  if plain then return plain end
  local can_be_read, head = pcall(cjson.decode, (string.match(record, '^[^\n]*')))
  return can_be_read and type(head) == 'table' and type(head[1]) == 'string' and head[1] or nil
end

-- The type, queue and priority that a record names; nothing where it cannot be read.
local function head_of(record)
  local can_be_read, head = pcall(cjson.decode, (string.match(record, '^[^\n]*')))
  if not can_be_read or type(head) ~= 'table' or type(head[1]) ~= 'string' or type(head[2]) ~= 'string' then return end
  return head[1], head[2], PRIORITIES[head[3]] and head[3] or 1
end

-- The priority and the place of a task that stands in one of the lines it may stand in; nothing if it is in none.
local function found_in_line(base, kind, queue, id)
  for priority, level in pairs(PRIORITIES) do
    local line = base .. 'line:' .. queue .. ':' .. level
    local place = redis.call('ZSCORE', line, id) or redis.call('ZSCORE', line .. ':' .. kind, id)
    if place then return priority, place end
  end
end

-- The highest number of a run whose outcome is kept; 0 and false if there is none.
local function latest_run(outcomes, id)
  local WINDOW, RUNS_MAX = 50, 10000
  local latest, outcome = 0, false
  for first = 0, RUNS_MAX, WINDOW do
    local runs, is_empty = {}, true
    for n = 1, WINDOW do runs[n] = id .. ':' .. first + n - 1 end
    for n, told in ipairs(redis.call('HMGET', outcomes, unpack(runs))) do
      if told then latest, outcome, is_empty = first + n - 1, told, false end
    end
    if is_empty then break end
  end
  return latest, outcome
end

local function is_queue_name(text)
  return #text <= 64 and string.find(text, '^[%w._-]+$') ~= nil
end

-- A line has tasks now: it gets its turn, and its queue is known.
local function open_line(base, queue, level, now_ms)
  if redis.call('ZADD', base .. 'turns:' .. level, 'NX', now_ms .. '000', queue) == 1 then
    redis.call('HSETNX', base .. 'queues', queue, 'open')
  end
end

-- Put tasks into the line of their type, at the places they have. `placed`: place, id, …
local function set_aside(base, queue, level, kind, placed, now_ms)
  call_many('ZADD', base .. 'line:' .. queue .. ':' .. level .. ':' .. kind, placed)
  redis.call('ZADD', base .. 'turns:' .. level .. ':' .. kind, 'NX', now_ms .. '000', queue)
  redis.call('SADD', base .. 'aside', kind)
end

-- A queued task leaves its line, or the one of its type, without having been claimed: its flow gets the place back.
local function leave_line(tasks, line, flows, id, fair_key)
  if redis.call('ZREM', line, id) == 0 then
    local kind = type_of(redis.call('HGET', tasks, id) or '')
    if not kind or redis.call('ZREM', line .. ':' .. kind, id) == 0 then return end
  end
  local last = number(redis.call('HGET', flows, 'k:' .. fair_key))
  if last > 0 then redis.call('HSET', flows, 'k:' .. fair_key, last - 1) end
end

-- What is noted of a supervisor that sleeps: the queues that it serves, its workers that have nothing to do, and when
-- it said so.
local function sleeper(serves, idle_workers, said_ms)
  return serves .. ' ' .. idle_workers .. ' ' .. said_ms
end

local function parse_sleeper(noted)
  local serves, idle_workers, said_ms = string.match(noted, '^(%S+) ?(%d*) ?(%d*)$')
  return serves or '', tonumber(idle_workers) or 0, tonumber(said_ms) or 0
end

local function is_served(queue, serves)
  return serves == '*' or string.find(serves, ',' .. queue .. ',', 1, true)
end

-- Whether a supervisor has said that it can run the type; nil is any.
local function knows(base, supervisor, kind)
  return not kind or redis.call('SISMEMBER', base .. 'types:' .. supervisor, kind) == 1
end

-- What is noted of a supervisor whose workers are all busy, and that would have a run make way for an urgent one: '!'
-- and the queues that it serves. It may be mistaken by the time that it is wanted, so that more than one is called.
local CALLED_MIN = 3

-- Wake up to `count` supervisors that sleep and serve the queue; for urgent tasks, if there are none, busy ones that
-- would make way. One that does not hear is passed over: it is gone. `sleepers`: what the caller has read of idle, if
-- it has; a supervisor that was woken is taken out of it. `kind`: the type of the tasks, if they have one in common;
-- else a supervisor that is woken and does not know the type of a task sets the task aside and wakes another.
local function ring_bells(idle, base, queue, count, is_urgent, sleepers, kind)
  sleepers = sleepers or redis.call('HGETALL', idle)
  local busy = {}
  local function wake(i)
    sleepers[i + 1] = ''
    redis.call('HDEL', idle, sleepers[i])
    if redis.call('PUBLISH', base .. 'bell:' .. sleepers[i], queue) > 0 then count = count - 1 end
  end
  for i = 1, #sleepers, 2 do
    if count <= 0 then return end
    if string.byte(sleepers[i + 1]) == 33 then
      busy[#busy + 1] = i
    elseif is_served(queue, parse_sleeper(sleepers[i + 1])) and knows(base, sleepers[i], kind) then
      wake(i)
    end
  end
  if not is_urgent or count <= 0 then return end
  count = math.max(count, CALLED_MIN)
  for _, i in ipairs(busy) do
    local serves = string.sub(sleepers[i + 1], 2)
    if count > 0 and is_served(queue, serves) and knows(base, sleepers[i], kind) then wake(i) end
  end
end

local function is_urgent_line(line)
  return string.sub(line, -7) == ':URGENT'
end

-- Tell the clients that wait for these tasks, one message per client, and forget that they wait. `news`, if it is
-- given, is 'STATUS outcome' of the only one: whoever waits for a single task need not come back to read it.
local function tell_waiters(waiters, base, ids, news)
  if #ids == 0 or redis.call('EXISTS', waiters) == 0 then return end
  local waiting, heard, messages = read_many('HMGET', waiters, ids), {}, {}
  for i, clients in ipairs(waiting) do
    if clients then
      heard[#heard + 1] = ids[i]
      for client in string.gmatch(clients, '[^,]+') do
        messages[client] = messages[client] and messages[client] .. ',' .. ids[i] or ids[i]
      end
    end
  end
  call_many('HDEL', waiters, heard)
  for client, message in pairs(messages) do
    redis.call('PUBLISH', base .. 'done:' .. client, news and message .. ' ' .. news or message)
  end
end

-- One stream entry per script call, however many rows it has: "id STATUS run", or for several tasks at once
-- "prefix*tail,tail,… STATUS run" (core/task/event.py reads both).
local function add_events(events, rows)
  if #rows > 0 then redis.call('XADD', events, 'MAXLEN', '~', 10000, '*', 'e', table.concat(rows, '\n')) end
end

-- Whether a task is still as the caller has seen it. A caller who saw no life line passes one that it made up for a
-- task that is QUEUED since its submit, and is_stored = '0'.
local function is_as_seen(tasks, id, line, seen, is_stored)
  if is_stored == '1' then return line == seen end
  return not line and redis.call('HEXISTS', tasks, id) == 1
end

-- Put tasks into a line of a queue. entries: { id =, fair_key =, place = }; those with place 0 are given the next ones.
local function queue_up(base, queue, line, flows, entries, now_ms)
  if #entries == 0 then return end
  local keys, placed = {}, {}
  for _, entry in ipairs(entries) do
    if tonumber(entry.place) == 0 then keys[#keys + 1] = entry.fair_key end
  end
  local places, next_one = #keys > 0 and give_places(flows, keys), 0
  for i, entry in ipairs(entries) do
    if tonumber(entry.place) == 0 then
      next_one = next_one + 1
      entry.place = places[next_one]
    end
    placed[2 * i - 1], placed[2 * i] = entry.place, entry.id
  end
  call_many('ZADD', line, placed)
  open_line(base, queue, string.match(line, '%u+$'), now_ms)
end

-- What is kept of a run that the engine has ended without a worker.
local function outcome_without_run(run, now_ms, cause, kind, message)
  return '{"run":' .. run .. ',"cause":"' .. cause .. '","result":null,"error":{"kind":"' .. kind .. '","message":"'
    .. message .. '","traceback":null},"started_ms":null,"ended_ms":' .. now_ms
    .. ',"wall_s":null,"cpu_s":null,"peak_rss_bytes":null,"worker":null,"pid":null,"post_mortem":null}'
end

-- What is kept of a task that nobody started in time.
local function expired_outcome(run, now_ms)
  return outcome_without_run(run, now_ms, 'expired', 'Expired', 'nobody started it before its time was over')
end

-- Redis at its maxmemory refuses the first write of a script that may grow, and none after a write that cannot.
-- For verbs that must go through then: they end tasks and so make room, or keep the engine going that does.
local function even_when_full(hash)
  redis.call('HDEL', hash, '')
end

-- The name of the leader, if there is one: the key holds 'name until_ms'. An end that is further off than any caller
-- could have asked for was dated by a clock that has been set back since.
local function leader_of(lock, until_ms, now_ms)
  local leader, its_end = string.match(redis.call('GET', lock) or '', '^(%S+) (%d+)$')
  local end_ms, latest_ms = tonumber(its_end), 2 * tonumber(until_ms) - tonumber(now_ms)
  local is_over = tonumber(until_ms) <= tonumber(now_ms)  -- asked by one that stands down
  if leader and (is_over or (end_ms >= tonumber(now_ms) and end_ms <= latest_ms)) then return leader end
end

-- Below the write line: lead until then, or stand down with a moment that is over. Gives whether it leads. The DEL lets
-- the SET go through even when Redis is full, and the leader can make room.
local function take_lead(lock, name, until_ms, now_ms)
  redis.call('DEL', lock)
  if tonumber(until_ms) <= tonumber(now_ms) then return false end
  redis.call('SET', lock, name .. ' ' .. until_ms)
  return true
end
