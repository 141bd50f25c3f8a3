-- step: a supervisor's whole dealing with Redis, in one call: renew the lease, settle what ended, claim what there is
-- room for, take the mail. Called once for some dozens of tasks, so what is done for each of them is kept small: flat
-- arrays, lines changed by their ends, and a full look only at what is not the common case.
--
-- keys  1 tasks   2 life   3 outcomes   4 held of the supervisor   5 supervisors   6 idle   7 queues   8 turns   9 due
--       10 expiring   11 waiters   12 events   13 counters   14 orders of the supervisor   15 progress
--       16 to 19 ended: COMPLETED, FAILED, CANCELLED, TIMEOUT   20 reports
--       then for each queue: line URGENT, HIGH, NORMAL, LOW, flows URGENT, HIGH, NORMAL, LOW
-- args  1 supervisor   2 now_ms   3 lease_end_ms   4 want: tasks to claim at most   5 ageing_ms, 0 for none   6 base
--       7 serves: '*' or ',queue,queue,'   8 count of queues   9 count of settlements   10 remove_ms of an expired task
--       11 report: JSON, or '' for none   12 idle: workers that have nothing to do   13 holds: runs it knows it has
--       14 makes_way: '' never, '+' once it has as much as it wants, '!' now: it wants URGENT tasks only
--       15 heard: the last letter that the last answer brought, or '' for none: it and those before it are thrown away
--       16 slice: records to read at once
--       then the queues' names, then for each settlement: id, run, verdict, at, outcome
--         verdict  'move payer', payer being attempt, crash or nobody
--         at       due_ms of a retry, the queue of a release, else the moment of removal in ms
-- gives refused: {position, word, …} with word ALREADY | STALE | GONE | ILLEGAL; all others were settled
--       claimed: {id, record, 'run attempts crashes priority', …}; the priority where it may differ from the record's
--       orders: {JSON, …}, the first of the mailbox, which stay there until they are said to be heard
--       how many queues exist, how many runs the supervisor holds now
local ended_keys = { COMPLETED = KEYS[16], FAILED = KEYS[17], CANCELLED = KEYS[18], TIMEOUT = KEYS[19] }
local tasks, life, outcomes, held, idle = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[6]
local supervisor, now_ms, want, ageing_ms, base = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local queue_count, settle_count = tonumber(ARGV[8]), tonumber(ARGV[9])
-- What was handed over to it, and had not reached it when it sent this.
local unheard = math.max(0, redis.call('SCARD', held) - ARGV[13])
want = math.max(0, want - unheard)
local sub, call = string.sub, redis.call
local LEVELS = { 3, 2, 1, 0 }
local NEWS_BYTES_MAX = 16384
local CLAIM_BYTES_MAX, SLICE = 8388608, tonumber(ARGV[16])
local LETTERS_MAX = 100  -- in one answer
local queue_at = {}
for q = 1, queue_count do queue_at[ARGV[16 + q]] = q end
local function line_key(q, position) return KEYS[20 + (q - 1) * 8 + position] end
local function flows_key(q, position) return KEYS[24 + (q - 1) * 8 + position] end

local refused, claimed, rows, row_count, counts = {}, {}, {}, 0, {}
local function count(what, n) counts[what] = (counts[what] or 0) + n end
local function row(id, status, run)
  row_count = row_count + 1
  rows[row_count] = id .. ' ' .. status .. ' ' .. run
end

-- Settling: check. Nothing is written before every settlement has been weighed.
local left, lives, ends, results, releases, retries, told = {}, {}, {}, {}, {}, {}, {}
local settled, last_to, last_outcome = 0, nil, ''
local tail_length = #supervisor + 15  -- of ' at_ms supervisor', at_ms having 13 digits for the next 260 years
local running, ours = 'RUNNING ', ' ' .. supervisor

-- The word of refusal, or the new life line without its last two fields, and the new status.
local function weigh(line, run, verdict, at)
  if not line then return 'GONE' end
  local move, payer = string.match(verdict, '^(%S+) (%S+)$')
  local to = MOVES['RUNNING:' .. (move or '')]
  if not to then return 'ILLEGAL' end
  local status, at_run, attempts, crashes, priority, place, _, owner = parse_life(line)
  if at_run ~= run then return 'STALE' end
  if status ~= 'RUNNING' then return status == to and 'ALREADY' or 'STALE' end
  if owner ~= supervisor then return 'STALE' end
  if to == 'QUEUED' then
    if not queue_at[at] then return 'ILLEGAL' end
    releases[#releases + 1] = { position = 4 - priority, place = place, queue = at }
  end
  if payer == 'attempt' then attempts = attempts + 1 elseif payer == 'crash' then crashes = crashes + 1 end
  return nil, table.concat({ to, run, attempts, crashes, priority, place }, ' '), to
end

if settle_count > 0 then
  local ids, seen, first, suffix = {}, {}, 17 + queue_count, ' ' .. now_ms .. ' -'
  for i = 1, settle_count do ids[i] = ARGV[first + (i - 1) * 5] end
  local known = call('HMGET', life, unpack(ids))
  for i = 1, settle_count do
    local at = first + (i - 1) * 5
    local id, run, verdict, line = ids[i], ARGV[at + 1], ARGV[at + 2], known[i]
    local word, new, to
    if seen[id] then
      word = 'STALE'
    elseif verdict == 'complete nobody' and line and sub(line, 1, #run + 9) == running .. run .. ' '
        and sub(line, -#ours) == ours then
      to = MOVES['RUNNING:complete']
      new = to .. sub(line, 8, -tail_length - 1)
    else
      word, new, to = weigh(line, run, verdict, ARGV[at + 3])
    end
    if word then
      refused[#refused + 1], refused[#refused + 2] = i, word
    else
      seen[id] = true
      settled = settled + 1
      left[settled] = id
      lives[2 * settled - 1], lives[2 * settled] = id, new .. suffix
      if ARGV[at + 4] ~= '' then
        results[#results + 1], results[#results + 2] = id .. ':' .. run, ARGV[at + 4]
      end
      if FINAL[to] then
        local list = ends[to]
        if not list then
          list = {}
          ends[to] = list
        end
        list[#list + 1], list[#list + 2] = ARGV[at + 3], id
        told[#told + 1] = id
        last_to, last_outcome = to, ARGV[at + 4]
      elseif to == 'RETRYING' then
        retries[#retries + 1], retries[#retries + 2] = ARGV[at + 3], id
      else
        releases[#releases].id = id
      end
      row(id, to, run)
      count(to == 'QUEUED' and 'released' or to, 1)
    end
  end
end
------------------------------------------------------------------- write
even_when_full(life)
call('ZADD', KEYS[5], ARGV[3], supervisor)
if ARGV[11] ~= '' then call('HSET', KEYS[20], supervisor, ARGV[11]) end
if settled > 0 then
  call('HSET', life, unpack(lives))
  if #results > 0 then call('HSET', outcomes, unpack(results)) end
  call('SREM', held, unpack(left))
  if call('EXISTS', KEYS[15]) == 1 then call('HDEL', KEYS[15], unpack(left)) end
  for status, list in pairs(ends) do call('ZADD', ended_keys[status], unpack(list)) end
  if #retries > 0 then
    call('ZADD', KEYS[9], unpack(retries))
    local soonest_ms = math.huge
    for i = 1, #retries, 2 do soonest_ms = math.min(soonest_ms, retries[i]) end
    call('PUBLISH', base .. 'bell:keeper', string.format('%d', soonest_ms))
  end
  for _, back in ipairs(releases) do
    call('ZADD', line_key(queue_at[back.queue], back.position), back.place, back.id)
    ring_bells(idle, base, back.queue, 1, back.position == 1)
  end
  local is_news = #told == 1 and last_outcome ~= '' and #last_outcome <= NEWS_BYTES_MAX
  tell_waiters(KEYS[11], base, told, is_news and last_to .. ' ' .. last_outcome)
end

-- The lines of the first `depth` levels that have tasks and may be served: by level, each with its turn. Also the one that
-- was passed over longest.
local function survey(depth)
  local fields, states = { 'n' }, call('HMGET', KEYS[7], unpack(ARGV, 17, 16 + queue_count))
  for q = 1, queue_count do
    for position = 1, depth do fields[#fields + 1] = ARGV[16 + q] .. ':' .. PRIORITIES[LEVELS[position]] end
  end
  local turns = call('HMGET', KEYS[8], unpack(fields))
  local levels, oldest, changed, gone = { {}, {}, {}, {} }, nil, {}, {}
  for q = 1, queue_count do
    for position = 1, depth do
      local at = 1 + (q - 1) * depth + position
      local size = call('ZCARD', line_key(q, position))
      if size > 0 and states[q] ~= 'paused' then
        local turn, served_ms = string.match(turns[at] or '', '^(%d+) (%d+)$')
        if not turn then
          turn, served_ms = '0', now_ms
          changed[#changed + 1], changed[#changed + 2] = fields[at], '0 ' .. now_ms
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
  if #changed > 0 then call('HSET', KEYS[8], unpack(changed)) end
  if #gone > 0 then call('HDEL', KEYS[8], unpack(gone)) end
  return levels, oldest, number(turns[1])
end

-- Choose up to n tasks: one of a line that has waited past the ageing bound, then strictly by level, and in a level by
-- turns over the queues. Gives their ids, places, priorities and lines.
local function choose(n)
  local levels, oldest, turn = survey(ARGV[14] == '!' and 1 or 4)
  local ids, places, priorities, lines_of, chosen, served = {}, {}, {}, {}, 0, {}
  local function serve(line, quota)
    local key = line_key(line.q, line.position)
    local popped = call('ZPOPMIN', key, quota)
    local flows, last = flows_key(line.q, line.position), number(popped[#popped])
    if last > number(call('HGET', flows, 'v')) then call('HSET', flows, 'v', last) end
    turn = turn + 1
    line.size, line.turn = line.size - #popped / 2, turn
    served[line.field] = turn .. ' ' .. now_ms
    return { popped = popped, priority = LEVELS[line.position], key = key }
  end
  local function append(taken, i)
    chosen = chosen + 1
    ids[chosen], places[chosen], priorities[chosen] = taken.popped[2 * i - 1], taken.popped[2 * i], taken.priority
    lines_of[chosen] = taken.key
  end
  if oldest then append(serve(oldest, 1), 1) end
  for position = 1, 4 do
    local lines = levels[position]
    while chosen < n and #lines > 0 do
      table.sort(lines, function(a, b) return a.turn < b.turn end)
      local room, quota, rounds, longest = n - chosen, math.max(1, math.floor((n - chosen) / #lines)), {}, 0
      for _, line in ipairs(lines) do
        local share = math.min(quota, room, line.size)
        if share > 0 then
          rounds[#rounds + 1] = serve(line, share)
          room, longest = room - share, math.max(longest, share)
        end
      end
      for i = 1, longest do
        for _, taken in ipairs(rounds) do
          if taken.popped[2 * i] then append(taken, i) end
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
    changes[#changes + 1], changes[#changes + 2] = field, value
  end
  if #changes > 2 then call('HSET', KEYS[8], unpack(changes)) end
  return ids, places, priorities, lines_of
end

-- End a task that came up after its `expires`.
local function expire(id, run, attempts, crashes, priority, place)
  call('HSET', life, id, format_life('FAILED', run, attempts, crashes, priority, place, now_ms, '-'))
  call('HSET', outcomes, id .. ':' .. run, expired_outcome(run, now_ms))
  call('ZADD', ended_keys.FAILED, ARGV[10], id)
  row(id, 'FAILED', run)
  count('FAILED', 1)
  tell_waiters(KEYS[11], base, { id })
end

-- The records of the first of these tasks, until they are as many bytes as one answer may have. Redis drops a subscriber
-- to whom it owes 32 MB; so a slice stays well below that even when each of its payloads is as large as it may be.
local function read_records(ids)
  local records, bytes, first = {}, 0, 1
  while first <= #ids and bytes < CLAIM_BYTES_MAX do
    for i, record in ipairs(call('HMGET', tasks, unpack(ids, first, math.min(first + SLICE - 1, #ids)))) do
      records[first + i - 1] = record
      bytes = bytes + (record and #record or 0)
    end
    first = first + SLICE
  end
  return records
end

local function claim(n)
  local ids, places, priorities, lines_of = choose(n)
  local chosen = #ids
  if chosen == 0 then return 0 end
  local records = read_records(ids)
  if #records < chosen then
    for i = chosen, #records + 1, -1 do
      call('ZADD', lines_of[i], places[i], ids[i])
      ids[i] = nil
    end
    call('PUBLISH', base .. 'bell:' .. supervisor, '!')  -- there is more, and there may be room for it
  end
  local known = call('HMGET', life, unpack(ids))
  local limits = call('EXISTS', KEYS[10]) == 1 and call('ZMSCORE', KEYS[10], unpack(ids)) or {}
  local begun, members, taken, suffix = {}, {}, 0, ' ' .. now_ms .. ' ' .. supervisor
  for i, id in ipairs(ids) do
    local status, run, attempts, crashes = 'QUEUED', 0, 0, 0
    if known[i] then status, run, attempts, crashes = parse_life(known[i]) end
    if not records[i] or not MOVES[(status or '') .. ':claim'] then
      count('strays', 1)  -- an id without a task, or of one that is not queued: the line was wrong, and is right now
    elseif limits[i] and tonumber(limits[i]) <= tonumber(now_ms) then
      expire(id, run, attempts, crashes, priorities[i], places[i])
    else
      local counters = known[i] and (run + 1) .. ' ' .. attempts .. ' ' .. crashes or '1 0 0'
      taken = taken + 1
      begun[2 * taken - 1] = id
      begun[2 * taken] = running .. counters .. ' ' .. priorities[i] .. ' ' .. places[i] .. suffix
      members[taken] = id
      row(id, 'RUNNING', run + 1)
      if known[i] then counters = counters .. ' ' .. priorities[i] end
      claimed[3 * taken - 2], claimed[3 * taken - 1], claimed[3 * taken] = id, records[i], counters
    end
  end
  if #limits > 0 then call('ZREM', KEYS[10], unpack(ids)) end
  if taken > 0 then
    call('HSET', life, unpack(begun))
    call('SADD', held, unpack(members))
    count('runs', taken)
  end
  return chosen
end

local taken = want > 0 and queue_count > 0 and claim(want) or 0
if ARGV[14] == '!' and (taken < want or want == 0) or ARGV[14] == '+' and taken == want then
  call('HSET', idle, supervisor, '!' .. ARGV[7])
elseif taken < want then
  call('HSET', idle, supervisor, sleeper(ARGV[7], math.max(0, ARGV[12] - unheard - taken), now_ms))
else
  call('HDEL', idle, supervisor)
end
add_events(KEYS[12], rows)
for what, n in pairs(counts) do count_up(KEYS[13], what, n) end
if ARGV[15] ~= '' then
  local at = call('LPOS', KEYS[14], ARGV[15])
  if at then call('LTRIM', KEYS[14], at + 1, -1) end
end
return { refused, claimed, call('LRANGE', KEYS[14], 0, LETTERS_MAX - 1), call('HLEN', KEYS[7]), call('SCARD', held) }
