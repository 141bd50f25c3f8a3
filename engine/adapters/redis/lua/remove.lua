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
local lines = redis.call('HMGET', life, unpack(ids))
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
for _, key in pairs(ended) do redis.call('ZREM', key, unpack(gone)) end
redis.call('ZREM', expiring, unpack(gone))
for _, key in ipairs({ tasks, life, progress, rescues, waiters }) do redis.call('HDEL', key, unpack(gone)) end
for first = 1, #runs, 1000 do redis.call('HDEL', outcomes, unpack(runs, first, math.min(first + 999, #runs))) end
redis.call('DEL', unpack(logs))
return words
