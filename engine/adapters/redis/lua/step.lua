-- step: a supervisor's whole dealing with Redis, in one call: renew the lease, settle what ended, claim what there is
-- room for, take the mail. Called once for some dozens of tasks, so what is done for each of them is kept small: flat
-- arrays, lines changed by their ends, and a full look only at what is not the common case.
--
-- A task whose type the supervisor does not know is not claimed, and nothing is charged to it: it is set aside, at its
-- place, in a line that only supervisors that know the type look at. So it is met once, and then no other task waits
-- behind it.
--
-- keys  1 tasks   2 life   3 outcomes   4 held of the supervisor   5 supervisors   6 idle   7 queues   8 aside   9 due
--       10 expiring   11 waiters   12 events   13 counters   14 orders of the supervisor   15 progress
--       16 to 19 ended: COMPLETED, FAILED, CANCELLED, TIMEOUT   20 reports   21 types of the supervisor
--       and, since only this script knows what has its turn: the turns, lines and flows
-- args  1 supervisor   2 now_ms   3 lease_end_ms   4 want: tasks to claim at most   5 ageing_ms, 0 for none   6 base
--       7 serves: '*' or ',queue,queue,'   8 count of settlements   9 remove_ms of an expired task
--       10 report: JSON, or '' for none   11 idle: workers that have nothing to do, or '' to leave what is noted of it
--       12 holds: runs it knows it has
--       13 makes_way: '' never, '+' once it has as much as it wants, '!' now: it wants URGENT tasks only
--       14 heard: the last letter that the last answer brought, or '' for none: it and those before it are thrown away
--       15 slice: records to read at once
--       then for each settlement: id, run, verdict, at, outcome
--         verdict  'move payer', payer being attempt, crash or nobody
--         at       due_ms of a retry; the queue of a release, with the type behind a space if that is not known here;
--                  else the moment of removal in ms
-- gives refused: {position, word, …} with word ALREADY | STALE | GONE | ILLEGAL; all others were settled
--       claimed: {id, record, 'run attempts crashes priority', …}; the priority where it may differ from the record's
--       orders: {JSON, …}, the first of the mailbox, which stay there until they are said to be heard
--       how many types it has said it knows: while it has said none, it is given nothing
--       how many runs the supervisor holds now
local ended_keys = { COMPLETED = KEYS[16], FAILED = KEYS[17], CANCELLED = KEYS[18], TIMEOUT = KEYS[19] }
local tasks, life, outcomes, held, idle = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[6]
local supervisor, now_ms, want, ageing_ms, base = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local serves, settle_count, makes_way = ARGV[7], tonumber(ARGV[8]), ARGV[13]
-- What was handed over to it, and had not reached it when it sent this.
local unheard = math.max(0, redis.call('SCARD', held) - ARGV[12])
local types_known = redis.call('SCARD', KEYS[21])
want = types_known > 0 and math.max(0, want - unheard) or 0
local sub, call, match, byte = string.sub, redis.call, string.match, string.byte
local NEWS_BYTES_MAX = 16384
local CLAIM_BYTES_MAX, SLICE = 8388608, tonumber(ARGV[15])
local LETTERS_MAX = 100  -- in one answer
local LOOKS_MAX, SWEEP = 4, 200  -- at the lines in one step, and how many tasks of a line are looked at for strangers

local refused, claimed, rows, row_count, counts = {}, {}, {}, 0, {}
local function count(what, n) counts[what] = (counts[what] or 0) + n end
local function row(id, status, run)
  row_count = row_count + 1
  rows[row_count] = id .. ' ' .. status .. ' ' .. run
end

-- Settling: check. Nothing is written before every settlement has been weighed.
local left, lives, ends, results, releases, retries, told = {}, {}, {}, {}, {}, {}, {}
local settled, last_to, last_outcome = 0, nil, ''
local tail_length = #supervisor + 15  -- of ' at_ms supervisor', where at_ms has 13 digits, as it has until 2286
local running, ours, space, good_at = 'RUNNING ', ' ' .. supervisor, 32, nil

local function is_moment(at)
  local moment = tonumber(at)
  return moment and moment >= 0 and moment < 1e15
end

-- The word of refusal, or the new life line without its last two fields, and the new status.
local function weigh(id, line, run, verdict, at)
  if not line then  -- it was deleted: that the supervisor holds the run is known all the same
    local record = call('SISMEMBER', held, id) == 1 and call('HGET', tasks, id)
    if not record then return 'GONE' end
    line = running .. run .. ' 0 0 ' .. (match(record, '^%["[^"\\]*","[^"]*",([0-3])') or 1) .. ' 0 ' .. now_ms .. ours
  end
  local move, payer = match(verdict, '^(%S+) (%S+)$')
  local to = MOVES['RUNNING:' .. (move or '')]
  if not to then return 'ILLEGAL' end
  local status, at_run, attempts, crashes, priority, place, _, owner = parse_life(line)
  local is_restored = place == '0' and status == 'RUNNING' and owner == supervisor
  if is_restored then at_run = run end  -- its number was a guess
  if at_run ~= run then return 'STALE' end
  if status ~= 'RUNNING' then return status == to and 'ALREADY' or 'STALE' end
  if owner ~= supervisor then return 'STALE' end
  if to == 'QUEUED' then
    local queue, kind = match(at, '^(%S+) ?(.*)$')
    if not queue or not is_queue_name(queue) then return 'ILLEGAL' end
    releases[#releases + 1] = { level = PRIORITIES[tonumber(priority)], place = place, queue = queue,
      kind = kind ~= '' and kind }
  elseif not is_moment(at) then
    return 'ILLEGAL'
  end
  if payer == 'attempt' then attempts = attempts + 1 elseif payer == 'crash' then crashes = crashes + 1 end
  return nil, table.concat({ to, run, attempts, crashes, priority, place }, ' '), to
end

if settle_count > 0 then
  local ids, seen, first, suffix, completed = {}, {}, 16, ' ' .. now_ms .. ' -', 0
  for i = 1, settle_count do ids[i] = ARGV[first + (i - 1) * 5] end
  local known = read_many('HMGET', life, ids)
  for i = 1, settle_count do
    local at = first + (i - 1) * 5
    local id, run, verdict, line = ids[i], ARGV[at + 1], ARGV[at + 2], known[i]
    local word, new, to
    if seen[id] then
      word = 'STALE'
    elseif verdict == 'complete nobody' and line and sub(line, 1, #run + 9) == running .. run .. ' '
        and sub(line, -#ours) == ours and byte(line, -tail_length) == space
        and (ARGV[at + 3] == good_at or is_moment(ARGV[at + 3])) then
      good_at = ARGV[at + 3]
      to = MOVES['RUNNING:complete']
      new = to .. sub(line, 8, -tail_length - 1)
    else
      word, new, to = weigh(id, line, run, verdict, ARGV[at + 3])
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
      row_count = row_count + 1
      rows[row_count] = id .. ' ' .. to .. ' ' .. run
      if to == 'COMPLETED' then
        completed = completed + 1
      else
        count(to == 'QUEUED' and 'released' or to, 1)
      end
    end
  end
  if completed > 0 then count('COMPLETED', completed) end
end
------------------------------------------------------------------- write
even_when_full(life)
call('ZADD', KEYS[5], ARGV[3], supervisor)
if ARGV[10] ~= '' then call('HSET', KEYS[20], supervisor, ARGV[10]) end
if settled > 0 then
  call_many('HSET', life, lives)
  call_many('HSET', outcomes, results)
  call_many('SREM', held, left)
  if call('EXISTS', KEYS[15]) == 1 then call_many('HDEL', KEYS[15], left) end
  for status, list in pairs(ends) do call_many('ZADD', ended_keys[status], list) end
  if #retries > 0 then
    call_many('ZADD', KEYS[9], retries)
    local soonest_ms = math.huge
    for i = 1, #retries, 2 do soonest_ms = math.min(soonest_ms, retries[i]) end
    call('PUBLISH', base .. 'bell:keeper', string.format('%d', soonest_ms))
  end
  for _, back in ipairs(releases) do
    if back.kind then
      set_aside(base, back.queue, back.level, back.kind, { back.place, back.id }, now_ms)
    else
      call('ZADD', base .. 'line:' .. back.queue .. ':' .. back.level, back.place, back.id)
      open_line(base, back.queue, back.level, now_ms)
    end
    ring_bells(idle, base, back.queue, 1, back.level == 'URGENT', nil, back.kind or nil)
  end
  local is_news = #told == 1 and last_outcome ~= '' and #last_outcome <= NEWS_BYTES_MAX
  tell_waiters(KEYS[11], base, told, is_news and last_to .. ' ' .. last_outcome)
end

-- End a task that came up after its `expires`.
local function expire(id, run, attempts, crashes, priority, place)
  call('HSET', life, id, format_life('FAILED', run, attempts, crashes, priority, place, now_ms, '-'))
  call('HSET', outcomes, id .. ':' .. run, expired_outcome(run, now_ms))
  call('ZADD', ended_keys.FAILED, ARGV[9], id)
  row(id, 'FAILED', run)
  count('FAILED', 1)
  tell_waiters(KEYS[11], base, { id })
end

-- The records of the first of these tasks, until they are, with so many bytes before them, as much as one answer may
-- have. Redis drops a subscriber to whom it owes 32 MB; so a slice stays well below that even when each of its payloads
-- is as large as it may be.
local function read_records(ids, bytes)
  local records, first = {}, 1
  while first <= #ids and bytes < CLAIM_BYTES_MAX do
    for i, record in ipairs(call('HMGET', tasks, unpack(ids, first, math.min(first + SLICE - 1, #ids)))) do
      records[first + i - 1] = record
      bytes = bytes + (record and #record or 0)
    end
    first = first + SLICE
  end
  return records, bytes
end

local claim_count = 0
-- Start the runs of tasks that were taken out of their lines. What turns out to be over is not started.
local function start(ids, records, places, priorities, lines_of)
  local known = read_many('HMGET', life, ids)
  local limits = call('EXISTS', KEYS[10]) == 1 and read_many('ZMSCORE', KEYS[10], ids) or {}
  local begun, members, furthest, taken, suffix = {}, {}, {}, 0, ' ' .. now_ms .. ' ' .. supervisor
  local first, line, place = claim_count, nil, nil
  local fresh, fresh_row, has_limits = running .. '1 0 0 ', ' RUNNING 1', #limits > 0
  for i = 1, #ids do
    local id, record, life_line, counters, run = ids[i], records[i], known[i], '1 0 0', nil
    if record and not life_line and not (has_limits and limits[i]) then  -- as most are: never claimed before
      taken = taken + 1
      begun[2 * taken - 1] = id
      begun[2 * taken] = fresh .. priorities[i] .. ' ' .. places[i] .. suffix
      row_count = row_count + 1
      rows[row_count] = id .. fresh_row
    else
      local status, attempts, crashes = 'QUEUED', 0, 0
      run = 0
      if life_line then status, run, attempts, crashes = parse_life(life_line) end
      if not record or not MOVES[(status or '') .. ':claim'] then
        count('strays', 1)  -- an id without a task, or of one that is not queued: the line was wrong, and is right now
        counters = nil
      elseif limits[i] and tonumber(limits[i]) <= tonumber(now_ms) then
        expire(id, run, attempts, crashes, priorities[i], places[i])
        counters = nil
      else
        if life_line then counters = (run + 1) .. ' ' .. attempts .. ' ' .. crashes end
        taken = taken + 1
        begun[2 * taken - 1] = id
        local kept = places[i] == '0' and '1' or places[i]  -- 0 says that a run's number is a guess, and this is none
        begun[2 * taken] = running .. counters .. ' ' .. priorities[i] .. ' ' .. kept .. suffix
        row(id, 'RUNNING', run + 1)
        if life_line then counters = counters .. ' ' .. priorities[i] end
      end
    end
    if counters then
      members[taken] = id
      if lines_of[i] ~= line then
        if line then furthest[line] = place end
        line = lines_of[i]
      end
      place = places[i]
      local at = 3 * (first + taken)
      claimed[at - 2], claimed[at - 1], claimed[at] = id, record, counters
    end
  end
  if #limits > 0 then call_many('ZREM', KEYS[10], ids) end
  claim_count = first + taken
  if line then furthest[line] = place end
  for served, last in pairs(furthest) do
    local flows = base .. 'flows:' .. served.queue .. ':' .. PRIORITIES[LEVELS[served.position]]
    if number(last) > number(call('HGET', flows, 'v')) then call('HSET', flows, 'v', last) end
  end
  call_many('HSET', life, begun)
  call_many('SADD', held, members)
  if taken > 0 then count('runs', taken) end
end

-- The type of a record if the supervisor does not know it. What cannot be read is for it to set aside as such.
local heads = {}
local function foreign_type(record)
  local head = match(record, '^%["[^"\\]*"') or match(record, '^[^\n]*')
  local kind = heads[head]
  if kind == nil then
    kind = type_of(head) or type_of(record) or false
    if kind and call('SISMEMBER', KEYS[21], kind) == 1 then kind = false end
    heads[head] = kind
  end
  return kind
end

-- Tasks of types that others know, on their way aside: by line and type, place, id, …
local strangers = {}
local function is_foreign(record, line, place, id)
  local kind = record and foreign_type(record)
  if not kind then return false end
  strangers[line.key] = strangers[line.key] or { line = line, kinds = {} }
  local placed = strangers[line.key].kinds[kind] or {}
  placed[#placed + 1], placed[#placed + 2] = place, id
  strangers[line.key].kinds[kind] = placed
  return true
end

-- Set strangers aside, with those that follow them in their lines, and wake supervisors that know them.
local function clear_lines()
  for _, found in pairs(strangers) do
    local line = found.line
    if not line.kind then
      local told, ids, places, moved = call('ZRANGE', line.key, 0, SWEEP - 1, 'WITHSCORES'), {}, {}, {}
      for i = 1, #told, 2 do ids[#ids + 1], places[#places + 1] = told[i], told[i + 1] end
      for i, record in ipairs((read_records(ids, 0))) do
        if is_foreign(record, line, places[i], ids[i]) then moved[#moved + 1] = ids[i] end
      end
      call_many('ZREM', line.key, moved)
      if call('ZCARD', line.key) == 0 then call('ZREM', line.turns, line.queue) end
    end
    local level = PRIORITIES[LEVELS[line.position]]
    for kind, placed in pairs(found.kinds) do
      set_aside(base, line.queue, level, kind, placed, now_ms)
      ring_bells(idle, base, line.queue, #placed / 2, level == 'URGENT', nil, kind)
    end
  end
  strangers = {}
end

-- Claim up to n tasks of the first lines that have their turn. Gives how many went, and whether there may be more.
local answer_bytes = 0
local function claim_some(claimer, n)
  local ids, places, priorities, lines_of, is_cut = choose(claimer, n)
  local chosen, foreign = #ids, 0
  if chosen == 0 then return 0, is_cut end
  local records, bytes = read_records(ids, answer_bytes)
  answer_bytes = bytes
  for i = chosen, #records + 1, -1 do  -- there are more than one answer may have
    local line = lines_of[i]
    call('ZADD', line.key, places[i], ids[i])
    call('ZADD', line.turns, 'NX', now_ms .. '000', line.queue)
    ids[i], is_cut = nil, 'full'
  end
  local head, length = nil, 0  -- of the record before: tasks that wait together mostly are of one type
  for i = 1, #records do
    local record = records[i]
    local is_known = record and sub(record, 1, length) == head
    if not is_known then
      is_known = not is_foreign(record, lines_of[i], places[i], ids[i])
      if not is_known then
        foreign = foreign + 1
      elseif record then
        head = match(record, '^%["[^"\\]*"')
        length = head and #head or 0
      end
    end
    if is_known and foreign > 0 then
      local to = i - foreign
      ids[to], records[to], places[to] = ids[i], records[i], places[i]
      priorities[to], lines_of[to] = priorities[i], lines_of[i]
    end
  end
  for i = #records, #records - foreign + 1, -1 do ids[i] = nil end
  if foreign > 0 then
    clear_lines()
    is_cut = is_cut or true
  end
  if #ids > 0 then start(ids, records, places, priorities, lines_of) end
  return #ids, is_cut
end

local function claim(n)
  local names = {}
  if serves ~= '*' then
    for name in string.gmatch(serves, '[^,]+') do names[#names + 1] = name end
  end
  local claimer = { now_ms = now_ms, base = base, serves = serves, names = names, ageing_ms = ageing_ms,
    queues = KEYS[7], aside = KEYS[8], types = KEYS[21], depth = makes_way == '!' and 1 or 4 }
  claimer.kinds = kinds_aside(claimer)
  local taken, looks, count, is_cut = 0, 0, 0, true
  while taken < n and is_cut and is_cut ~= 'full' and looks < LOOKS_MAX do
    count, is_cut = claim_some(claimer, n - taken)
    taken, looks = taken + count, looks + 1
  end
  if taken < n and (is_cut or taken > 0 and claimer.has_more_kinds) then
    call('PUBLISH', base .. 'bell:' .. supervisor, '!')  -- there is more, and there may be room for it
    return n
  end
  return taken
end

local taken = want > 0 and claim(want) or 0
if makes_way == '!' and (taken < want or want == 0) or makes_way == '+' and taken == want then
  call('HSET', idle, supervisor, '!' .. serves)
elseif taken < want then
  call('HSET', idle, supervisor, sleeper(serves, math.max(0, ARGV[11] - unheard - taken), now_ms))
elseif ARGV[11] ~= '' then
  call('HDEL', idle, supervisor)
end
add_events(KEYS[12], rows)
for what, n in pairs(counts) do count_up(KEYS[13], what, n) end
if ARGV[14] ~= '' then
  local at = call('LPOS', KEYS[14], ARGV[14])
  if at then call('LTRIM', KEYS[14], at + 1, -1) end
end
return { refused, claimed, call('LRANGE', KEYS[14], 0, LETTERS_MAX - 1), types_known, call('SCARD', held) }
