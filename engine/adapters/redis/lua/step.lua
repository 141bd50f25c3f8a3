-- step: a supervisor's whole dealing with Redis, in one call: renew the lease, settle what ended, claim what there is
-- room for, take the mail.
--
-- keys  1 tasks   2 life   3 outcomes   4 held of the supervisor   5 supervisors   6 idle   7 queues   8 turns   9 due
--       10 expiring   11 waiters   12 events   13 counters   14 orders of the supervisor   15 progress
--       16 to 19 ended: COMPLETED, FAILED, CANCELLED, TIMEOUT   20 reports
--       then for each queue: line URGENT, HIGH, NORMAL, LOW, flows URGENT, HIGH, NORMAL, LOW
-- args  1 supervisor   2 now_ms   3 lease_end_ms   4 want: tasks to claim at most   5 ageing_ms, 0 for none   6 base
--       7 serves: '*' or ',queue,queue,'   8 count of queues   9 count of settlements   10 remove_ms of an expired task
--       11 report: JSON, or '' for none
--       then the queues' names, then for each settlement: id, run, move, payer, at_ms, queue, outcome
--       (at_ms: due moment of a retry, moment of removal of a final one)
-- gives refused: {position, word, …} with word ALREADY | STALE | GONE | ILLEGAL; all others were settled
--       claimed: {id, record, run, attempts, crashes, …}
--       orders: {JSON, …}
--       how many queues exist, how many runs the supervisor holds now
local ended_keys = { COMPLETED = KEYS[16], FAILED = KEYS[17], CANCELLED = KEYS[18], TIMEOUT = KEYS[19] }
local tasks, life, outcomes, held, idle = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[6]
local supervisor, now_ms, want, ageing_ms, base = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local queue_count, settle_count = tonumber(ARGV[8]), tonumber(ARGV[9])
local LEVELS = { 3, 2, 1, 0 }
local queue_at = {}
for q = 1, queue_count do queue_at[ARGV[11 + q]] = q end
local function line_key(q, position) return KEYS[20 + (q - 1) * 8 + position] end
local function flows_key(q, position) return KEYS[24 + (q - 1) * 8 + position] end

local refused, claimed, rows, counts = {}, {}, {}, {}
local new_lives, new_outcomes, left, told, retries = {}, {}, {}, {}, {}
local ends, releases = {}, {}

local function count(what, n) counts[what] = (counts[what] or 0) + n end

-- Check. What each settlement comes to; nothing is written yet.
local function weigh(i, first, line)
  local id, run, move = ARGV[first], ARGV[first + 1], ARGV[first + 2]
  local to = MOVES['RUNNING:' .. move]
  local status, at_run, attempts, crashes, priority, place
  if line then status, at_run, attempts, crashes, priority, place = parse_life(line) end
  local word
  if not status then word = 'GONE'
  elseif not to then word = 'ILLEGAL'
  elseif at_run ~= run then word = 'STALE'
  elseif status ~= 'RUNNING' then word = status == to and 'ALREADY' or 'STALE'
  elseif to == 'QUEUED' and not queue_at[ARGV[first + 5]] then word = 'ILLEGAL' end
  if word then
    refused[#refused + 1] = i
    refused[#refused + 1] = word
    return
  end
  local payer, at_ms, outcome = ARGV[first + 3], ARGV[first + 4], ARGV[first + 6]
  if payer == 'attempt' then attempts = attempts + 1 elseif payer == 'crash' then crashes = crashes + 1 end
  new_lives[#new_lives + 1] = id
  new_lives[#new_lives + 1] = format_life(to, run, attempts, crashes, priority, place, now_ms, '-')
  if outcome ~= '' then
    new_outcomes[#new_outcomes + 1] = id .. ':' .. run
    new_outcomes[#new_outcomes + 1] = outcome
  end
  left[#left + 1] = id
  rows[#rows + 1] = id .. ' ' .. to .. ' ' .. run
  count(to == 'QUEUED' and 'released' or to, 1)
  if FINAL[to] then
    local list = ends[to] or {}
    ends[to] = list
    list[#list + 1] = at_ms
    list[#list + 1] = id
    told[#told + 1] = id
  elseif to == 'RETRYING' then
    retries[#retries + 1] = at_ms
    retries[#retries + 1] = id
  else
    releases[#releases + 1] = { id = id, place = place, queue = ARGV[first + 5], priority = tonumber(priority) }
  end
end

if settle_count > 0 then
  local ids, start = {}, 11 + queue_count
  for i = 1, settle_count do ids[i] = ARGV[start + (i - 1) * 7 + 1] end
  local lives, seen = redis.call('HMGET', life, unpack(ids)), {}
  for i = 1, settle_count do
    if seen[ids[i]] then
      refused[#refused + 1] = i
      refused[#refused + 1] = 'STALE'
    else
      seen[ids[i]] = true
      weigh(i, start + (i - 1) * 7 + 1, lives[i])
    end
  end
end
------------------------------------------------------------------- write
redis.call('ZADD', KEYS[5], ARGV[3], supervisor)
if ARGV[11] ~= '' then redis.call('HSET', KEYS[20], supervisor, ARGV[11]) end
if #left > 0 then
  even_when_full(life)
  redis.call('HSET', life, unpack(new_lives))
  if #new_outcomes > 0 then redis.call('HSET', outcomes, unpack(new_outcomes)) end
  redis.call('SREM', held, unpack(left))
  if redis.call('EXISTS', KEYS[15]) == 1 then redis.call('HDEL', KEYS[15], unpack(left)) end
  for status, list in pairs(ends) do redis.call('ZADD', ended_keys[status], unpack(list)) end
  if #retries > 0 then
    redis.call('ZADD', KEYS[9], unpack(retries))
    redis.call('PUBLISH', base .. 'bell:keeper', 'due')
  end
  for _, back in ipairs(releases) do
    redis.call('ZADD', line_key(queue_at[back.queue], 4 - back.priority), back.place, back.id)
    ring_bells(idle, base, back.queue, 1)
  end
  tell_waiters(KEYS[11], base, told)
end

-- Take the first n tasks of a line.
local function take(q, position, n)
  local popped = redis.call('ZPOPMIN', line_key(q, position), n)
  local taken = {}
  for i = 1, #popped, 2 do
    taken[#taken + 1] = { id = popped[i], place = popped[i + 1], priority = LEVELS[position], name = ARGV[11 + q] }
  end
  if #taken > 0 then redis.call('HSET', flows_key(q, position), 'v', taken[#taken].place) end
  return taken
end

-- The lines that have tasks and may be served: by level, each with its turn. Also the one that was passed over longest.
local function survey()
  local fields, states = { 'n' }, redis.call('HMGET', KEYS[7], unpack(ARGV, 12, 11 + queue_count))
  for q = 1, queue_count do
    for position = 1, 4 do fields[#fields + 1] = ARGV[11 + q] .. ':' .. PRIORITIES[LEVELS[position]] end
  end
  local turns = redis.call('HMGET', KEYS[8], unpack(fields))
  local levels, oldest, changed, gone = { {}, {}, {}, {} }, nil, {}, {}
  for q = 1, queue_count do
    for position = 1, 4 do
      local at = 1 + (q - 1) * 4 + position
      local size = redis.call('ZCARD', line_key(q, position))
      if size > 0 and states[q] ~= 'paused' then
        local turn, served_ms = string.match(turns[at] or '', '^(%d+) (%d+)$')
        if not turn then
          turn, served_ms = '0', now_ms
          changed[#changed + 1] = fields[at]
          changed[#changed + 1] = '0 ' .. now_ms
        end
        local line = { q = q, position = position, size = size, turn = tonumber(turn), field = fields[at] }
        table.insert(levels[position], line)
        local waited = now_ms - served_ms
        if ageing_ms > 0 and waited >= ageing_ms and (not oldest or waited > oldest.waited) then
          line.waited = waited
          oldest = line
        end
      elseif turns[at] then
        gone[#gone + 1] = fields[at]
      end
    end
  end
  if #changed > 0 then redis.call('HSET', KEYS[8], unpack(changed)) end
  if #gone > 0 then redis.call('HDEL', KEYS[8], unpack(gone)) end
  return levels, oldest, tonumber(turns[1] or 0)
end

-- Choose up to n tasks: one of a line that has waited past the ageing bound, then strictly by level, and in a level by
-- turns over the queues.
local function choose(n)
  local levels, oldest, turn = survey()
  local chosen, served = {}, {}
  local function serve(line, quota)
    local taken = take(line.q, line.position, quota)
    line.size = line.size - #taken
    turn = turn + 1
    line.turn = turn
    served[line.field] = turn .. ' ' .. now_ms
    return taken
  end
  if oldest then
    chosen = serve(oldest, 1)
    n = n - #chosen
  end
  for position = 1, 4 do
    local lines = levels[position]
    while n > 0 and #lines > 0 do
      table.sort(lines, function(a, b) return a.turn < b.turn end)
      local quota, rounds, longest = math.max(1, math.floor(n / #lines)), {}, 0
      for _, line in ipairs(lines) do
        if n > 0 and line.size > 0 then
          local taken = serve(line, math.min(quota, n, line.size))
          n = n - #taken
          rounds[#rounds + 1] = taken
          longest = math.max(longest, #taken)
        end
      end
      for round = 1, longest do
        for _, taken in ipairs(rounds) do
          if taken[round] then chosen[#chosen + 1] = taken[round] end
        end
      end
      local rest = {}
      for _, line in ipairs(lines) do
        if line.size > 0 then rest[#rest + 1] = line end
      end
      lines = rest
    end
  end
  local changes = { 'n', turn }
  for field, value in pairs(served) do
    changes[#changes + 1] = field
    changes[#changes + 1] = value
  end
  if #changes > 2 then redis.call('HSET', KEYS[8], unpack(changes)) end
  return chosen
end

-- End a task that came up after its `expires`.
local function expire(task, run, attempts, crashes)
  redis.call('HSET', life, task.id, format_life('FAILED', run, attempts, crashes, task.priority, task.place, now_ms, '-'))
  redis.call('HSET', outcomes, task.id .. ':' .. run, expired_outcome(run, now_ms))
  redis.call('ZADD', ended_keys.FAILED, ARGV[10], task.id)
  rows[#rows + 1] = task.id .. ' FAILED ' .. run
  count('FAILED', 1)
  tell_waiters(KEYS[11], base, { task.id })
end

local function claim(n)
  local chosen = choose(n)
  if #chosen == 0 then return 0 end
  local ids, lives, members = {}, {}, {}
  for i, task in ipairs(chosen) do ids[i] = task.id end
  local records = redis.call('HMGET', tasks, unpack(ids))
  local known = redis.call('HMGET', life, unpack(ids))
  local limits = redis.call('EXISTS', KEYS[10]) == 1 and redis.call('ZMSCORE', KEYS[10], unpack(ids)) or {}
  for i, task in ipairs(chosen) do
    local status, run, attempts, crashes = 'QUEUED', 0, 0, 0
    if known[i] then status, run, attempts, crashes = parse_life(known[i]) end
    if not records[i] or not MOVES[(status or '') .. ':claim'] then
      count('strays', 1)  -- an id without a task, or of one that is not queued: the line was wrong, and is right now
    elseif limits[i] and tonumber(limits[i]) <= tonumber(now_ms) then
      expire(task, run, attempts, crashes)
    else
      run = run + 1
      lives[#lives + 1] = task.id
      lives[#lives + 1] = format_life('RUNNING', run, attempts, crashes, task.priority, task.place, now_ms, supervisor)
      members[#members + 1] = task.id
      rows[#rows + 1] = task.id .. ' RUNNING ' .. run
      local at = #claimed
      claimed[at + 1], claimed[at + 2], claimed[at + 3] = task.id, records[i], run
      claimed[at + 4], claimed[at + 5] = tonumber(attempts), tonumber(crashes)
    end
  end
  if #limits > 0 then redis.call('ZREM', KEYS[10], unpack(ids)) end
  if #members > 0 then
    redis.call('HSET', life, unpack(lives))
    redis.call('SADD', held, unpack(members))
    count('runs', #members)
  end
  return #chosen
end

if want > 0 and (queue_count == 0 or claim(want) < want) then redis.call('HSET', idle, supervisor, ARGV[7]) end
add_events(KEYS[12], rows)
for what, n in pairs(counts) do redis.call('HINCRBY', KEYS[13], what, n) end
local orders = redis.call('LPOP', KEYS[14], 100)
return { refused, claimed, orders or {}, redis.call('HLEN', KEYS[7]), redis.call('SCARD', held) }
