-- promote: queue tasks whose time has come: delayed ones last of their flow, retried ones at their old place.
--
-- keys  life, due, idle, events, then for each line: line, flows
-- args  base of the channels, now_ms, number of lines,
--       for each line: queue
--       for each task: id, life line as seen, number of its line, fair_key
-- gives one word per task
--       OK        it is queued
--       MOVED_ON  it is not any more as it was seen, or not due any more
--       ILLEGAL   its status does not allow it
local life, due, idle, events = unpack(KEYS, 1, 4)
local base, now_ms, line_count = ARGV[1], ARGV[2], tonumber(ARGV[3])

local ids, words, ready = {}, {}, {}
for i = 4 + line_count, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end
local lines, moments = read_many('HMGET', life, ids), read_many('ZMSCORE', due, ids)
local entries = {}
for line = 1, line_count do entries[line] = {} end
for n, id in ipairs(ids) do
  local i = 4 + line_count + 4 * (n - 1)
  local status, run, attempts, crashes, priority, place = parse_life(ARGV[i + 1])
  if lines[n] ~= ARGV[i + 1] or not moments[n] or tonumber(moments[n]) > tonumber(now_ms) then
    words[n] = 'MOVED_ON'
  elseif not MOVES[(status or '') .. ':promote'] then
    words[n] = 'ILLEGAL'
  else
    words[n] = 'OK'
    local entry = { id = id, fair_key = ARGV[i + 3], place = place, run = run, attempts = attempts,
      crashes = crashes, priority = priority }
    ready[#ready + 1] = entry
    table.insert(entries[tonumber(ARGV[i + 2])], entry)
  end
end
if #ready == 0 then return words end
------------------------------------------------------------------- write
even_when_full(life)
for line = 1, line_count do
  queue_up(base, ARGV[3 + line], KEYS[3 + 2 * line], KEYS[4 + 2 * line], entries[line], now_ms)
end
local came, lives, rows = {}, {}, {}
for n, task in ipairs(ready) do
  came[n] = task.id
  lives[2 * n - 1] = task.id
  lives[2 * n] = format_life('QUEUED', task.run, task.attempts, task.crashes, task.priority, task.place, now_ms, '-')
  rows[n] = task.id .. ' QUEUED ' .. task.run
end
call_many('HSET', life, lives)
call_many('ZREM', due, came)
add_events(events, rows)
for line = 1, line_count do ring_bells(idle, base, ARGV[3 + line], #entries[line], is_urgent_line(KEYS[3 + 2 * line])) end
return words
