-- mend: put a task where its life says that it is, or take an id from where it does not belong. The caller has seen
-- that something is wrong; all of it is checked again here.
--
-- keys  tasks, life, supervisors, idle, events, counters, then up to three for each suspect
-- args  base of the channels, now_ms, remove_ms,
--       for each suspect: what, id, life line as seen, is it stored (1 | 0), its first key - 1, fair_key, queue
-- what  its keys           done
-- line  line, flows        a QUEUED task is in no line, or in one that never has its turn: it is put in, and the line has
-- due   due                a PENDING or RETRYING task has no moment: it is as was submitted, or now
-- ahead due            a RETRYING task was dated by a clock that has been set back since: its pause begins now
-- ended ended of its status  an ended task has no moment of removal: it gets one
-- held  held, line, flows  a RUNNING task is not among its supervisor's: it is now; if that one is gone, it is queued
-- spent held, ended FAILED, outcomes   the same of one that may not be started again: if that one is gone, it has failed
-- zset  the zset           an id is in a line, in due or in ended without belonging there: it is taken out
-- set   held               an id is held that does not run under that supervisor: it is taken out
-- life  life               a life line belongs to no task: it is removed
-- lost  ended FAILED, outcomes, due   the life line of a task cannot be read: it fails, under a run number past all others
-- gives one word per suspect: MENDED | SOUND
--       ASTRAY  it has no life line and is in none of its lines: nothing is written. Its state may be lost: see restore
local tasks, life, supervisors, idle, events, counters = unpack(KEYS, 1, 6)
local base, now_ms, remove_ms = unpack(ARGV, 1, 3)
local words, rows, rung, mended = {}, {}, {}, 0

local function queue_again(task, line, flows)
  queue_up(base, task.queue, line, flows, { task }, now_ms)
  redis.call('HSET', life, task.id, format_life('QUEUED', task.run, task.attempts, task.crashes, task.priority,
    task.place, now_ms, '-'))
  rows[#rows + 1] = task.id .. ' QUEUED ' .. task.run
  rung[#rung + 1] = task
end

local function release_or_hold(task, held, line, flows)
  if redis.call('ZSCORE', supervisors, task.owner) then
    redis.call('SADD', held, task.id)
  else
    redis.call('SREM', held, task.id)
    queue_again(task, line, flows)
  end
end

local function is_not_held(task, held)
  return task.status == 'RUNNING' and (redis.call('SISMEMBER', held, task.id) == 0
    or not redis.call('ZSCORE', supervisors, task.owner))
end

local function fail_or_hold(task, held, failed, outcomes)
  if redis.call('ZSCORE', supervisors, task.owner) then return redis.call('SADD', held, task.id) end
  redis.call('SREM', held, task.id)
  redis.call('HSET', life, task.id, format_life('FAILED', task.run, task.attempts, task.crashes, task.priority,
    task.place, now_ms, '-'))
  redis.call('HSET', outcomes, task.id .. ':' .. task.run, outcome_without_run(task.run, now_ms, 'lease_lost',
    'LeaseLost', 'its supervisor is gone, and it must not be started again'))
  redis.call('ZADD', failed, remove_ms, task.id)
  rows[#rows + 1] = task.id .. ' FAILED ' .. task.run
end

-- Whether a queued task is in its line or in the one of its type, and that is among the turns.
local function waits_in_turn(task, line)
  local level = string.match(line, '%u+$')
  if redis.call('ZSCORE', line, task.id) then
    return redis.call('ZSCORE', base .. 'turns:' .. level, task.queue)
  end
  local kind = type_of(redis.call('HGET', tasks, task.id) or '')
  return kind and redis.call('ZSCORE', line .. ':' .. kind, task.id)
    and redis.call('ZSCORE', base .. 'turns:' .. level .. ':' .. kind, task.queue)
    and redis.call('SISMEMBER', base .. 'aside', kind) == 1
end

local function is_astray(task, line)
  local record = redis.call('HGET', tasks, task.id)
  local kind = record and not redis.call('ZSCORE', line, task.id) and (type_of(record) or '')
  return kind and not redis.call('ZSCORE', line .. ':' .. kind, task.id)
end

-- It is put into the first of its lines. What it was in of its type, it leaves.
local function line_up(task, line, flows)
  local kind = type_of(redis.call('HGET', tasks, task.id) or '')
  if kind then redis.call('ZREM', line .. ':' .. kind, task.id) end
  local place = redis.call('ZSCORE', line, task.id)
  if place then task.place = place end
  queue_again(task, line, flows)
end

-- Whether a task has no life line although it is not in a line either: where it is found is all that is known of it.
local function has_lost_its_life(task)
  return task.exists and not task.is_stored and task.queue ~= ''
    and not waits_in_turn(task, base .. 'line:' .. task.queue .. ':' .. PRIORITIES[tonumber(task.priority)])
end

-- what -> is something wrong?, and how it is put right: functions of the task and its keys
local wrong = {
  line = function(task, line) return task.status == 'QUEUED' and not waits_in_turn(task, line) end,
  due = function(task, due)
    return (task.status == 'PENDING' or task.status == 'RETRYING') and not redis.call('ZSCORE', due, task.id)
  end,
  ahead = function(task, due)
    return task.status == 'RETRYING' and tonumber(task.at_ms) > tonumber(now_ms) and redis.call('ZSCORE', due, task.id)
  end,
  ended = function(task, ended) return FINAL[task.status] and not redis.call('ZSCORE', ended, task.id) end,
  held = is_not_held,
  spent = is_not_held,
  zset = function(task, zset) return redis.call('ZSCORE', zset, task.id) and not has_lost_its_life(task) end,
  set = function(task, held)
    return redis.call('SISMEMBER', held, task.id) == 1 and not has_lost_its_life(task)
  end,
  life = function(task) return not task.exists end,
  lost = function(task) return task.exists and not STATUSES[task.status or ''] end,
}
local LOST_RUN = 1000000  -- no run that may still be under way has this number, so none can settle

local function fail_lost(task, failed, outcomes, due)
  redis.call('HSET', life, task.id, format_life('FAILED', LOST_RUN, 0, 0, 1, 0, now_ms, '-'))
  redis.call('HSET', outcomes, task.id .. ':' .. LOST_RUN, outcome_without_run(LOST_RUN, now_ms, 'invalid_payload',
    'UnreadableRecord', 'its life line cannot be read, so nobody knows whether it has run'))
  redis.call('ZADD', failed, remove_ms, task.id)
  redis.call('ZREM', due, task.id)
  rows[#rows + 1] = task.id .. ' FAILED ' .. LOST_RUN
end

local put_right = {
  line = line_up,
  due = function(task, due)
    local can_be_read, options = pcall(function()
      return cjson.decode(string.match(redis.call('HGET', tasks, task.id), '^[^\n]*'))[4]
    end)
    local due_ms = task.status == 'PENDING' and can_be_read and type(options) == 'table' and tonumber(options.due_ms)
    redis.call('ZADD', due, due_ms and string.format('%.0f', due_ms) or now_ms, task.id)
  end,
  ahead = function(task, due)
    local pause_ms = math.max(0, redis.call('ZSCORE', due, task.id) - task.at_ms)
    redis.call('ZADD', due, now_ms + pause_ms, task.id)
    redis.call('HSET', life, task.id, format_life(task.status, task.run, task.attempts, task.crashes, task.priority,
      task.place, now_ms, '-'))
  end,
  ended = function(task, ended) redis.call('ZADD', ended, remove_ms, task.id) end,
  held = release_or_hold,
  spent = fail_or_hold,
  zset = function(task, zset) redis.call('ZREM', zset, task.id) end,
  set = function(task, held) redis.call('SREM', held, task.id) end,
  life = function(task) redis.call('HDEL', life, task.id) end,
  lost = fail_lost,
}

for i = 4, #ARGV, 7 do
  local what, id, seen, is_stored, at = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4])
  local line, exists = redis.call('HGET', life, id), redis.call('HEXISTS', tasks, id) == 1
  local task = { id = id, exists = exists, fair_key = ARGV[i + 5], queue = ARGV[i + 6],
    is_stored = is_stored == '1' }
  task.status, task.run, task.attempts, task.crashes, task.priority, task.place, task.at_ms, task.owner =
    parse_life(seen)
  local same = is_stored == '1' and line == seen or is_stored == '0' and not line
  if same and what == 'line' and is_stored == '0' and is_astray(task, KEYS[at + 1]) then
    words[#words + 1] = 'ASTRAY'
  elseif same and wrong[what](task, KEYS[at + 1]) then
    words[#words + 1] = 'MENDED'
    mended = mended + 1
    even_when_full(life)
    put_right[what](task, KEYS[at + 1], KEYS[at + 2], KEYS[at + 3])
  else
    words[#words + 1] = 'SOUND'
  end
end
if mended > 0 then count_up(counters, 'mended', mended) end
add_events(events, rows)
for _, task in ipairs(rung) do ring_bells(idle, base, task.queue, 1, task.priority == '3') end
return words
