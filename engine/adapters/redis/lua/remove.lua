-- remove: forget tasks that have ended, and all that is kept of them.
--
-- keys  tasks, life, outcomes, progress, rescues, waiters, expiring,
--       ended COMPLETED, ended FAILED, ended CANCELLED, ended TIMEOUT, then the log of each task
-- args  the ids
-- gives one word per task
--       OK        it is forgotten
--       GONE      there is no such task
--       ILLEGAL   it has not ended
local tasks, life, outcomes, progress, rescues, waiters, expiring = unpack(KEYS, 1, 7)
local ended = { COMPLETED = KEYS[8], FAILED = KEYS[9], CANCELLED = KEYS[10], TIMEOUT = KEYS[11] }
local ids = ARGV
if #ids == 0 then return {} end

local RUNS_MAX = 10000  -- whose outcomes are looked for: a number that somebody has written must not stop Redis
local words, gone, logs, runs = {}, {}, {}, {}
local lines = read_many('HMGET', life, ids)
for n, id in ipairs(ids) do
  local status, run
  if lines[n] then status, run = parse_life(lines[n]) end
  if not status then
    words[n] = redis.call('HEXISTS', tasks, id) == 1 and 'ILLEGAL' or 'GONE'
  elseif not FINAL[status] then
    words[n] = 'ILLEGAL'
  else
    words[n] = 'OK'
    gone[#gone + 1] = id
    logs[#logs + 1] = KEYS[11 + n]
    for past = math.max(0, run - RUNS_MAX), tonumber(run) do runs[#runs + 1] = id .. ':' .. past end
  end
end
if #gone == 0 then return words end
------------------------------------------------------------------- write
for _, key in pairs(ended) do call_many('ZREM', key, gone) end
call_many('ZREM', expiring, gone)
for _, key in ipairs({ tasks, life, progress, rescues, waiters }) do call_many('HDEL', key, gone) end
call_many('HDEL', outcomes, runs)
call_many('DEL', logs[1], logs)
return words
