-- sweep: forget tasks whose moment of removal has come, and all that is kept of them, the most overdue status first.
-- What it finds by rank it also takes out by rank, and what mostly is not there it asks for once, not for each task.
--
-- keys  tasks, life, outcomes, progress, rescues, waiters, expiring,
--       ended COMPLETED, ended FAILED, ended CANCELLED, ended TIMEOUT
-- args  base of the names of logs, now_ms, most
-- gives how many were taken from the sets, and in ms the moment of the next removal, '' if there is none
--       A member that is no task, or whose task has not ended so, is only taken from the set.
--       The log of a task is a key that only the script can name: it has the same hash tag.
local tasks, life, outcomes, expiring = KEYS[1], KEYS[2], KEYS[3], KEYS[7]
local base, now_ms, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local ENDED = { [8] = 'COMPLETED', [9] = 'FAILED', [10] = 'CANCELLED', [11] = 'TIMEOUT' }
local RUNS_MAX = 1000  -- whose outcomes are looked for: a number that somebody has written must not stop Redis
local SLICE = 1000  -- arguments of one command
local call = redis.call

-- The set whose first moment comes before that of the others, and that moment.
local function most_overdue()
  local key, soonest
  for i = 8, 11 do
    local moment = tonumber(call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')[2] or '')
    if moment and (not soonest or moment < soonest) then key, soonest = i, moment end
  end
  return key, soonest
end

-- A task whose life line was deleted has ended as the set says, unless it waits in a line.
local function lost_state(id, status)
  local record = call('HGET', tasks, id)
  local kind, queue = head_of(record or '')
  if kind and not found_in_line(base, kind, queue, id) then return status, tostring((latest_run(outcomes, id))) end
end

local function in_slices(command, key, members)
  for first = 1, #members, SLICE do
    call(command, key, unpack(members, first, math.min(first + SLICE - 1, #members)))
  end
end

-- One that has no end has been put there by somebody else.
local function told(moment)
  return moment and moment < math.huge and string.format('%.0f', moment) or ''
end

local at, soonest = most_overdue()
if not at or soonest > now_ms then return { 0, told(soonest) } end
------------------------------------------------------------------- write
local taken = 0
while taken < most and at and soonest <= now_ms do
  local ids = call('ZRANGEBYSCORE', KEYS[at], '-inf', ARGV[2], 'LIMIT', 0, math.min(most - taken, SLICE))
  local lines, gone, logs, runs = call('HMGET', life, unpack(ids)), {}, {}, {}
  for n, id in ipairs(ids) do
    local status, run
    if lines[n] then
      status, run = string.match(lines[n], '^(%u+) (%d+) ')
    else
      status, run = lost_state(id, ENDED[at])
    end
    if status == ENDED[at] and #run <= 9 then
      gone[#gone + 1] = id
      logs[#logs + 1] = base .. 'log:' .. id
      for past = math.max(0, run - RUNS_MAX), tonumber(run) do runs[#runs + 1] = id .. ':' .. past end
    end
  end
  call('ZREMRANGEBYRANK', KEYS[at], 0, #ids - 1)
  if #gone > 0 then
    in_slices('HDEL', tasks, gone)
    in_slices('HDEL', life, gone)
    in_slices('HDEL', outcomes, runs)
    for i = 4, 6 do
      if call('EXISTS', KEYS[i]) == 1 then in_slices('HDEL', KEYS[i], gone) end
    end
    if call('EXISTS', expiring) == 1 then in_slices('ZREM', expiring, gone) end
    call('UNLINK', unpack(logs))
  end
  taken = taken + #ids
  at, soonest = most_overdue()
end
return { taken, told(soonest) }
