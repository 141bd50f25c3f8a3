-- remove: forget tasks that have ended, and all that is kept of them.
--
-- gives one word for each task
--       OK        it is forgotten
--       GONE      there is no such task
--       ILLEGAL   it has not ended
-- include: commands
-- include: state
local RUNS_MAX = 10000  -- whose outcomes are looked for: a number that somebody has written must not stop Redis
local ids, words, gone, logs, runs = {}, {}, {}, {}, {}
for n = 1, #ARGV.ids do ids[n] = ARGV.ids[n].id end
if #ids == 0 then return {} end

local states = read_many('HMGET', KEYS.states, ids)
for n, id in ipairs(ids) do
  local status, run
  if states[n] then status, run = parse_state(states[n]) end
  if not status then
    words[n] = redis.call('HEXISTS', KEYS.tasks, id) == 1 and 'ILLEGAL' or 'GONE'
  elseif not FINAL[status] then
    words[n] = 'ILLEGAL'
  else
    words[n] = 'OK'
    gone[#gone + 1] = id
    logs[#logs + 1] = KEYS.logs[n].log
    for past = math.max(0, run - RUNS_MAX), tonumber(run) do runs[#runs + 1] = id .. ':' .. past end
  end
end
if #gone == 0 then return words end
------------------------------------------------------------------- write
local ended = { KEYS.ended_completed, KEYS.ended_failed, KEYS.ended_cancelled, KEYS.ended_timeout }
for _, key in ipairs(ended) do call_many('ZREM', key, gone) end
call_many('ZREM', KEYS.expiring, gone)
for _, key in ipairs({ KEYS.tasks, KEYS.progress, KEYS.rescues, KEYS.waiters }) do call_many('HDEL', key, gone) end
forget_states(gone)
call_many('HDEL', KEYS.outcomes, runs)
call_many('DEL', logs[1], logs)
return words
