-- revive: queue tasks again after their end, with all their attempts.
--
-- keys  tasks, life, rescues, idle, events, counters, ended FAILED, ended CANCELLED, ended TIMEOUT, queues,
--       cancels, then for each line: line, flows
-- args  base of the channels, now_ms, number of lines,
--       for each line: queue
--       for each task: id, life line as seen, is it stored (1 | 0), number of its line, fair_key
-- gives one word per task
--       OK        it is queued, last of its flow; its run number counts on
--       MOVED_ON  it is not any more as it was seen
--       ILLEGAL   its status does not allow it
local tasks, life, rescues, idle, events, counters, failed, cancelled, timed_out, queues, cancels =
  unpack(KEYS, 1, 11)
local base, now_ms, line_count = ARGV[1], ARGV[2], tonumber(ARGV[3])

local ids, words, back = {}, {}, {}
for i = 4 + line_count, #ARGV, 5 do ids[#ids + 1] = ARGV[i] end
local lines, entries = read_many('HMGET', life, ids), {}
for line = 1, line_count do entries[line] = {} end
for n, id in ipairs(ids) do
  local i = 4 + line_count + 5 * (n - 1)
  local status, run, _, _, priority = parse_life(ARGV[i + 1])
  if not is_as_seen(tasks, id, lines[n], ARGV[i + 1], ARGV[i + 2]) then
    words[n] = 'MOVED_ON'
  elseif not MOVES[(status or '') .. ':revive'] then
    words[n] = 'ILLEGAL'
  else
    words[n] = 'OK'
    local entry = { id = id, fair_key = ARGV[i + 4], place = 0, run = run, priority = priority }
    back[#back + 1] = entry
    table.insert(entries[tonumber(ARGV[i + 3])], entry)
  end
end
if #back == 0 then return words end
------------------------------------------------------------------- write
local came, lives, rows = {}, {}, {}
for line = 1, line_count do
  queue_up(base, ARGV[3 + line], KEYS[10 + 2 * line], KEYS[11 + 2 * line], entries[line], now_ms)
end
for n, task in ipairs(back) do
  came[n] = task.id
  lives[2 * n - 1] = task.id
  lives[2 * n] = format_life('QUEUED', task.run, 0, 0, task.priority, task.place, now_ms, '-')
  rows[n] = task.id .. ' QUEUED ' .. task.run
end
call_many('HSET', life, lives)
call_many('HDEL', rescues, came)
call_many('HDEL', cancels, came)
for _, ended in ipairs({ failed, cancelled, timed_out }) do call_many('ZREM', ended, came) end
count_up(counters, 'revived', #back)
add_events(events, rows)
for line = 1, line_count do ring_bells(idle, base, ARGV[3 + line], #entries[line], is_urgent_line(KEYS[10 + 2 * line])) end
return words
